/** What the webhook asks of the API server: single requests, whose answers are judged by whoever asked. */
export interface KubeApi {
  /**
   * `path` with its query, such as `/api/v1/namespaces/team-a/pods/web-0`. Any status is an answer; E_CLUSTER_UNREACHABLE where none
   * comes, E_ABORTED when the signal fires.
   */
  request(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    options?: { readonly body?: unknown; readonly contentType?: string; readonly signal?: AbortSignal },
  ): Promise<KubeAnswer>;
}

export interface KubeAnswer {
  readonly status: number;
  /** The body where it is JSON, else null. Untrusted as to its form. */
  readonly object: unknown;
}
