/** The plugin as its users have it: bin/kubectl-holdfast, in a process of its own. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ran, type RunOptions, runCli } from '../cli/run-cli.ts';

const program = fileURLToPath(new URL('../../bin/kubectl-holdfast', import.meta.url));

export function runKubectl(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  // No configuration of whoever runs the tests is found.
  const env = { KUBECONFIG: join('/nowhere', 'kubeconfig'), ...options.env };
  return runCli([], { ...options, env, command: [program, ...args] });
}
