/** Processes in namespaces of their own, by their ids as this machine sees them. */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A process for as long as it lives: the same number may be another one later. */
export interface ProcessId {
  readonly pid: number;
  readonly startTime: string;
}

export type NamespaceKind = 'mount' | 'pid' | 'net' | 'uts';
export const allKinds: readonly NamespaceKind[] = ['mount', 'pid', 'net', 'uts'];

/** The command line that runs another one in namespaces of a process. */
export function entering(
  target: ProcessId,
  kinds: readonly NamespaceKind[],
  command: readonly string[],
): readonly string[] {
  return ['nsenter', `--target=${target.pid}`, ...kinds.map((kind) => `--${kind}`), '--', ...command];
}

/** The command line that runs another one as the first process of new namespaces; it dies with the process that runs this line. */
export function unsharing(command: readonly string[]): readonly string[] {
  const kinds = allKinds.map((kind) => `--${kind}`);
  return ['unshare', ...kinds, '--fork', '--kill-child', '--propagation=private', '--', ...command];
}

/** Starts a process that outlives this one, in a session of its own. What it prints is added to a file. */
export function startApart(
  [command = '', ...args]: readonly string[],
  options: { readonly log: string; readonly env?: NodeJS.ProcessEnv },
): ProcessId {
  const log = openSync(options.log, 'a');
  try {
    const child = spawn(command, args, {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: '/',
      env: { ...process.env, ...options.env },
    });
    child.on('error', () => {});
    child.unref();
    const id = child.pid === undefined ? undefined : identify(child.pid);
    if (id === undefined) throw new Error(`${command} cannot be started: see ${options.log}`);
    return id;
  } finally {
    closeSync(log);
  }
}

/** Runs a command to its end. Throws with what it printed when it fails. */
export function runNow(
  [command = '', ...args]: readonly string[],
  options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv } = {},
): string {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    env: { ...process.env, ...options.env },
    ...(options.input === undefined ? {} : { input: options.input }),
  });
  if (error !== undefined) throw new Error(`${command} cannot be started: ${error.message}`);
  if (status !== 0) {
    throw new Error(`${command} ${args.join(' ')} ended with ${signal ?? status}:\n${stdout}\n${stderr}`);
  }
  return stdout;
}

/** Undefined when there is none, or only what its parent has not asked for yet. */
export function identify(pid: number): ProcessId | undefined {
  const fields = statOf(pid);
  // Fields 3 and 22, counted after the command in parentheses, which may hold anything.
  return fields === undefined || fields[0] === 'Z' ? undefined : { pid, startTime: fields[19] ?? '' };
}

export function isAlive({ pid, startTime }: ProcessId): boolean {
  return identify(pid)?.startTime === startTime;
}

/** The process so many generations below, each the only child of the one before: of `nsenter`, `unshare` and the like. */
export async function descendantOf(ancestor: ProcessId, generations: number): Promise<ProcessId> {
  return await until(`a process below ${ancestor.pid}`, 10, () => {
    let pid = ancestor.pid;
    for (let generation = 0; generation < generations; generation++) {
      const child = Number.parseInt(readOrEmpty(`/proc/${pid}/task/${pid}/children`), 10);
      if (Number.isNaN(child)) {
        if (!isAlive(ancestor)) throw new Error(`process ${ancestor.pid} has ended at once`);
        return undefined;
      }
      pid = child;
    }
    return identify(pid);
  });
}

/** Ends a process and waits until it is gone. One that is gone already is left alone. */
export async function end(target: ProcessId, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  if (isAlive(target)) process.kill(target.pid, signal);
  // Of one with threads the first may be a zombie while another still takes its namespace's processes down.
  const isThere = (): boolean => statOf(target.pid)?.[19] === target.startTime;
  await until(`the end of process ${target.pid}`, 60, () => (isThere() ? undefined : true));
}

/** Asks until there is an answer; says what was waited for when there is none in time. */
export async function until<T>(
  what: string,
  seconds: number,
  ask: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const endMs = performance.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > endMs) throw new Error(`${what}: not in ${seconds} s`);
    await sleep(50);
  }
}

function statOf(pid: number): readonly string[] | undefined {
  const stat = readOrEmpty(`/proc/${pid}/stat`);
  return stat === '' ? undefined : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
