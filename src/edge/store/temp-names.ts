import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';

/**
 * Names of the directory store's unfinished objects: `<host>-<pid>-<start>-<random>`, all but the pid in hexadecimal. The
 * name says whose it is, so that what a dead process left can be removed and what a living one writes is left alone.
 *
 * `host` stands for one boot of one kernel and one pid namespace, because only there do pids mean the same: a store may be
 * shared by containers and by machines, also by machines of the same host name. `start` is the start time of the process,
 * because pids are used again, and a container's first process has the same one every time.
 */
export interface TempOwner {
  readonly host: string;
  readonly pid: number;
  readonly start: string;
}

const form = /^([0-9a-f]{16})-([1-9][0-9]{0,9})-([0-9a-f]{1,16})-[0-9a-f]{16}(\.probe)?$/;

/** This process as an owner. Where the system has no /proc, the host is random: then nobody can tell whether it lives. */
export function tempOwner(): TempOwner {
  return { host: hostToken(), pid: process.pid, start: startOfProcess(process.pid) ?? '0' };
}

export function newTempName(owner: TempOwner): string {
  return `${owner.host}-${owner.pid}-${owner.start}-${randomBytes(8).toString('hex')}`;
}

/** A second name beside a temporary one, for trying out what the file system can do. */
export function probeName(tempName: string): string {
  return `${tempName}.probe`;
}

/** Whose unfinished object this is, or undefined for a name that is not made here. */
export function parseTempName(name: string): TempOwner | undefined {
  const match = form.exec(name);
  if (match === null) return undefined;
  return { host: match[1]!, pid: Number(match[2]), start: match[3]! };
}

/** True only where it is known that the owner has ended; `asker` is this process. */
export function hasEnded(owner: TempOwner, asker: TempOwner): boolean {
  if (owner.host !== asker.host) return false;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
  const start = startOfProcess(owner.pid);
  return start !== undefined && start !== owner.start;
}

function hostToken(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return createHash('sha256')
      .update(`${boot} ${readlinkSync('/proc/self/ns/pid')}`)
      .digest('hex')
      .slice(0, 16);
  } catch {
    return randomBytes(8).toString('hex');
  }
}

/** Clock ticks since boot at which a process started, or undefined where that cannot be read. */
function startOfProcess(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // Field 22. The second field is the program's name, in parentheses, and may itself hold spaces and parentheses.
    const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return ticks === undefined ? undefined : BigInt(ticks).toString(16);
  } catch {
    return undefined;
  }
}
