import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';

/** A program to run and measure, with nothing inherited from the caller's environment but what stands here. */
export interface Command {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

/** What one run of a whole process tree cost. */
export interface Measured {
  readonly wallSeconds: number;
  /** User and system time of the process and of all descendants that it waited for; grain 10 ms. */
  readonly cpuSeconds: number;
  /**
   * The highest resident memory of the tree: the largest sum over its processes seen by sampling, or the kernel's own
   * high-water mark of one process where that is higher. Pages shared by several processes count once in each.
   */
  readonly peakBytes: number;
  /** CPU time that everything else on the machine used meanwhile, the kernel's own threads included. */
  readonly otherCpuSeconds: number;
}

/** The program ended otherwise than by exit status 0. */
export class CommandFailed extends Error {
  readonly status: number | string;

  constructor(command: Command, status: number | string, output: string) {
    super(`${command.argv.join(' ')} ended with ${status}\n${output.slice(-2000)}`);
    this.name = 'CommandFailed';
    this.status = status;
  }
}

/** Often enough to see a peak that lasts, rare enough to cost about 1 % of a core. */
const sampleIntervalMs = 20;

/** CPU ticks per second in /proc; fixed at 100 for user space on all Linux architectures that Node supports. */
const ticksPerSecond = 100;

/**
 * Runs a program to its end and measures its whole process tree. Only one may run at a time in this process, since the
 * CPU time is the growth of what this process's ended children used.
 * @param outputPath receives stdout and stderr
 * @throws CommandFailed on a status other than 0 or a signal
 */
export async function runMeasured(
  command: Command,
  { outputPath, signal }: { outputPath: string; signal?: AbortSignal },
): Promise<Measured> {
  const output = openSync(outputPath, 'w');
  const [program, ...args] = command.argv;
  const cpuBefore = endedChildrenCpuSeconds();
  const busyBefore = machineCpuSeconds();
  const start = process.hrtime.bigint();
  const child = spawn(program, args, {
    cwd: command.cwd,
    env: command.env,
    stdio: ['ignore', output, output],
    detached: true,
  });
  let peakBytes = 0;
  const sample = (): void => {
    if (child.pid !== undefined) peakBytes = Math.max(peakBytes, treeResidentBytes(child.pid));
  };
  // A group of its own, so that an interrupted benchmark ends the whole tree and nothing else.
  const interrupt = (): void => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  };
  signal?.addEventListener('abort', interrupt, { once: true });
  const timer = setInterval(sample, sampleIntervalMs);
  try {
    const ended = await new Promise<{ status: number | string; at: bigint }>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signalName) => {
        resolve({ status: code ?? signalName ?? 'unknown', at: process.hrtime.bigint() });
      });
    });
    signal?.throwIfAborted();
    if (ended.status !== 0) throw new CommandFailed(command, ended.status, readFileSync(outputPath, 'utf8'));
    const cpuSeconds = endedChildrenCpuSeconds() - cpuBefore;
    const otherCpuSeconds = Math.max(0, machineCpuSeconds() - busyBefore - cpuSeconds);
    return { wallSeconds: Number(ended.at - start) / 1e9, cpuSeconds, peakBytes, otherCpuSeconds };
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', interrupt);
    closeSync(output);
  }
}

/** @returns user and system time of all children (and theirs) that this process has waited for */
function endedChildrenCpuSeconds(): number {
  const fields = statFields('self');
  return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond;
}

/** @returns user and system time of a process that runs, without its children */
export function processCpuSeconds(pid: number): number {
  const fields = statFields(pid);
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** The fields from the third on: the state is 0, utime 11, cutime 13. */
function statFields(pid: number | 'self'): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is the program's name and may hold spaces: count from its closing parenthesis.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** @returns the time that all CPUs of the machine were busy since it started */
function machineCpuSeconds(): number {
  // cpu user nice system idle iowait irq softirq …: guest time stands in user already.
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'latin1').split(/\s+/, 8).map(Number);
  return ((user ?? 0) + (nice ?? 0) + (system ?? 0) + (irq ?? 0) + (softirq ?? 0)) / ticksPerSecond;
}

/** @returns resident bytes of `root` and its descendants now, at least the high-water mark of any one of them; 0 when gone */
export function treeResidentBytes(root: number): number {
  let sum = 0;
  let highest = 0;
  const queue = [root];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'latin1');
      sum += kibibytesIn(status, 'VmRSS:') * 1024;
      highest = Math.max(highest, kibibytesIn(status, 'VmHWM:') * 1024);
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        const children = readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1');
        for (const child of children.split(' ')) if (child !== '') queue.push(Number(child));
      }
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
  return Math.max(sum, highest);
}

function kibibytesIn(status: string, field: string): number {
  const at = status.indexOf(field);
  return at < 0 ? 0 : Number.parseInt(status.slice(at + field.length), 10);
}

/** A process or thread may end between two looks at it. */
function isGone(error: unknown): boolean {
  if (!(error instanceof Error) || !('errno' in error)) return false;
  return error.errno === -constants.errno.ENOENT || error.errno === -constants.errno.ESRCH;
}
