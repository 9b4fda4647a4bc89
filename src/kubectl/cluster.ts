/** What the plugin asks of a cluster, with the caller's own rights and no others. */
export interface Cluster {
  /** Name of the context. */
  readonly context: string;
  /** Address of the API server. */
  readonly server: string;
  /** Of the context, where the caller names none. */
  readonly namespace: string;
  /** Any status is an answer; E_CLUSTER_UNREACHABLE where none comes, E_ABORTED when the signal fires. */
  request(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    options?: ClusterRequestOptions,
  ): Promise<ClusterAnswer>;
  /** Runs a command in a container, as `kubectl exec` does. E_CLUSTER_REFUSED where it cannot be started. */
  exec(
    target: { readonly namespace: string; readonly pod: string; readonly container: string },
    command: readonly string[],
    options?: { readonly signal?: AbortSignal },
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;
}

export interface ClusterRequestOptions {
  readonly body?: unknown;
  readonly contentType?: string;
  /** Only the object's metadata: of Secrets, which are not to come onto this machine to be counted. */
  readonly metadataOnly?: boolean;
  readonly signal?: AbortSignal;
}

export interface ClusterAnswer {
  readonly status: number;
  /** The body where it is JSON, else null. */
  readonly object: unknown;
  /** The API server's time, ms since 1970, to the second; undefined where it does not tell. */
  readonly serverMs: number | undefined;
  /** Warnings that came with it, as `kubectl` shows them. */
  readonly warnings: readonly string[];
}
