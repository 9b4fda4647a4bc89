/** `kubectl holdfast`: kubectl runs any program `kubectl-NAME` that it finds in PATH. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Output } from '../cli/host.ts';
import { version } from '../cli/version.ts';
import { systemClock } from '../edge/host/system-clock.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Cluster } from './cluster.ts';
import type { KubectlHost } from './host.ts';
import { runKubectl } from './run.ts';

const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => interrupt.abort(new HoldfastError('E_ABORTED', `interrupted by ${signal}`)));
}
// A reader that went away, such as head, is not our failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

function outputOf(stream: NodeJS.WriteStream): Output {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  const isTerminal = stream.isTTY === true;
  return {
    isTerminal,
    columns: stream.columns || 80,
    colours:
      (NO_COLOR === undefined || NO_COLOR === '') &&
      ((isTerminal && TERM !== 'dumb') || (FORCE_COLOR !== undefined && FORCE_COLOR !== '0')),
    write(text) {
      stream.write(text);
      return undefined;
    },
  };
}

/** The command line beside this one; the plugin's own options do not reach it but as arguments. */
const holdfast = fileURLToPath(
  new URL(`../cli/main.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url),
);

const clusters: Disposable[] = [];
const host: KubectlHost = {
  version,
  stdout: outputOf(process.stdout),
  stderr: outputOf(process.stderr),
  clock: systemClock,
  signal: interrupt.signal,
  async readText(path) {
    try {
      return path === '-' ? await text(process.stdin) : readFileSync(path, 'utf8');
    } catch (cause) {
      throw new HoldfastError('E_USAGE', `${path} cannot be read: ${(cause as Error).message}`, { cause });
    }
  },
  parseDocuments: (await import('../edge/cluster/parse-documents.ts')).parseDocuments,
  async connect(options) {
    const { openKubeconfig } = await import('../edge/cluster/kubeconfig-cluster.ts');
    const cluster = openKubeconfig(options);
    clusters.push(cluster);
    return cluster satisfies Cluster;
  },
  authoritiesUntilMs: (await import('../edge/host/inspect-certificate.ts')).endsOfBundle,
  async runHoldfast(args) {
    const child = spawn(process.execPath, [holdfast, ...args], { stdio: 'inherit' });
    return await new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code) => resolve(code ?? 1));
    });
  },
  async askHoldfast(args) {
    const child = spawn(process.execPath, [holdfast, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code) => resolve(code ?? 1));
    });
    const [code, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
    return { code, stdout, stderr };
  },
};

process.exitCode = await runKubectl(process.argv.slice(2), host);
for (const cluster of clusters) cluster[Symbol.dispose]();
