import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import type { Step, StepResult } from './children/operate.ts';

/** Path of a program in children/, to be run by `process.execPath`. */
export function childProgram(name: string): string {
  return fileURLToPath(new URL(`./children/${name}.ts`, import.meta.url));
}

export interface OperateOptions {
  /** A command line to run the process under, such as strace's; the process's own is put behind it. */
  readonly under?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs children/operate.ts on a store; one result per step that came to an end. */
export async function operate(
  root: string,
  steps: readonly Step[],
  options: OperateOptions = {},
): Promise<readonly StepResult[]> {
  const command = [...(options.under ?? []), process.execPath, childProgram('operate'), root, JSON.stringify(steps)];
  const child = spawn(command[0]!, command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  await new Promise((resolve) => child.on('close', resolve));
  const results = stdout.split('\n').filter((line) => line !== '');
  // Anything on stderr is a surprise: it stands in the failure of the test.
  if (stderr !== '') expect(stderr, 'what the child process printed').toBe('');
  return results.map((line) => JSON.parse(line) as StepResult);
}

/** Something the machine can do or not. */
export interface Ability {
  readonly there: boolean;
  readonly why: string;
}

/**
 * For `test.skipIf`: true where a test cannot run on this machine, and says so where people look. With CI set a skipped
 * test counts as failed (tools/vitest-counts.ts), so there nothing is left out quietly.
 */
export function lacking(...abilities: readonly Ability[]): boolean {
  const missing = abilities.filter(({ there }) => !there);
  for (const { why } of missing) process.stderr.write(`NOT TESTED HERE: faults of the directory store: ${why}\n`);
  return missing.length > 0;
}

const isRoot = process.getuid?.() === 0;

// A namespace of its own: whatever is mounted in it is gone with the last process in it, however that one ends.
const unshare = ['unshare', ...(isRoot ? [] : ['--user', '--map-root-user']), '--mount', '--propagation', 'private'];

/** To run a process under: its own mounts, made by `script`, a shell script in which "$store" is the store's path. */
export function withMounts(store: string, script: string): readonly string[] {
  return [...unshare, 'sh', '-ec', `store="$1"; shift; ${script}; exec "$@"`, 'sh', store];
}

/** To run a process under: strace that lets system calls fail, such as `fsync:error=EIO:when=1`. Calls are counted per thread. */
export function withFaults(...injections: readonly string[]): OperateOptions {
  const expressions = injections.flatMap((injection) => ['-e', `inject=${injection}`]);
  return { under: ['strace', '-f', '-qq', '-o', '/dev/null', ...expressions], env: { UV_THREADPOOL_SIZE: '1' } };
}

export const canMount: Ability = {
  there: succeeds([...unshare, 'sh', '-ec', 'mount -t tmpfs tmpfs /mnt']),
  why: 'mount namespaces need root, or user namespaces for everybody',
};

export const canTrace: Ability = {
  there: succeeds(['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'inject=fsync:error=EIO', 'true']),
  why: 'strace is needed (apt-get install strace), and the right to trace',
};

export const canCutPower: Ability = {
  there: isRoot && canMount.there && succeeds(['sh', '-c', 'command -v mkfs.xfs xfs_io && test -b /dev/loop0']),
  why: 'root, loop devices, mkfs.xfs and xfs_io are needed (apt-get install xfsprogs)',
};

function succeeds(command: readonly string[]): boolean {
  return spawnSync(command[0]!, command.slice(1), { stdio: 'ignore' }).status === 0;
}
