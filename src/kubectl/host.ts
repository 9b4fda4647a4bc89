/** What the plugin needs of the machine; main.ts builds it, tests build another. */
import type { Output } from '../cli/host.ts';
import type { Clock } from '../engine/ports/clock.ts';
import type { Json } from '../webhook/json.ts';
import type { Cluster } from './cluster.ts';

export interface KubectlHost {
  readonly version: string;
  readonly stdout: Output;
  readonly stderr: Output;
  readonly clock: Clock;
  /** Fires at SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
  /** `-` for stdin. E_USAGE when it cannot be read. */
  readText(path: string): Promise<string>;
  /** The documents of a YAML or JSON text. E_USAGE when it is neither. */
  parseDocuments(text: string): readonly Json[];
  /** E_USAGE where there is no such configuration. */
  connect(options: { readonly kubeconfig: string | undefined; readonly context: string | undefined }): Promise<Cluster>;
  /** When each CA of a bundle (PEM) ends, ms since 1970; what is no certificate is left out. */
  authoritiesUntilMs(bundle: string): readonly number[];
  /** Runs `holdfast` with these arguments on this terminal; its exit code. */
  runHoldfast(args: readonly string[]): Promise<number>;
  /** The same, and what it wrote. */
  askHoldfast(
    args: readonly string[],
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;
}
