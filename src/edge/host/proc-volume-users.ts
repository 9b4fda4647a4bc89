/**
 * Who uses a directory, by /proc. A process of another container that has the volume mounted counts, whether or not it has anything
 * open: that is what an application looks like that writes now and then. In the own mount namespace, where every process sees every
 * path, only those count that have something open, mapped, or as their working directory below it.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { VolumeUser, VolumeUsers, VolumeUses } from '../../engine/ports/volume-users.ts';

/** Of the machine's own PID namespace, in every kernel: all processes are seen from there. */
const initialPidNamespace = 'pid:[4026531836]';

export function procVolumeUsers(proc = '/proc', self: number = process.pid): VolumeUsers {
  return { find: (paths) => findUsers(proc, self, paths) };
}

function findUsers(proc: string, self: number, paths: readonly string[]): VolumeUses {
  const users: VolumeUser[] = [];
  const ownMounts = readLink(`${proc}/${self}/ns/mnt`);
  let othersSeen = readLink(`${proc}/${self}/ns/pid`) === initialPidNamespace;
  let unreadable = ownMounts === undefined;
  const mounted = mountsOf(readText(`${proc}/${self}/mountinfo`) ?? '', paths);
  for (const name of namesIn(proc)) {
    const pid = Number(name);
    if (!/^\d+$/.test(name) || pid === self) continue;
    const base = `${proc}/${name}`;
    const status = readText(`${base}/status`);
    // Gone meanwhile, ended and not collected, or a thread of the kernel, which opens nothing.
    if (status === undefined || /^State:\s+[ZX]/m.test(status) || !/^VmSize:/m.test(status)) continue;
    const mounts = readLink(`${base}/ns/mnt`);
    const command = /^Name:\s+(.*)$/m.exec(status)?.[1] ?? '';
    if (mounts === undefined) {
      // One that came to its end while it was looked at is no reason for doubt.
      if (readText(`${base}/status`) !== undefined) unreadable = true;
      continue;
    }
    if (mounts !== ownMounts) {
      othersSeen = true;
      const info = readText(`${base}/mountinfo`);
      if (info === undefined) unreadable = true;
      else if (hasMounted(info, mounted)) users.push({ pid, command });
      continue;
    }
    if (hasOpen(base, paths)) users.push({ pid, command });
  }
  return { users, complete: othersSeen && !unreadable };
}

/** Device and path on it of each mount that one of the directories is, or lies in. */
function mountsOf(mountinfo: string, paths: readonly string[]): ReadonlySet<string> {
  const rows = rowsOf(mountinfo);
  const found = new Set<string>();
  for (const path of paths) {
    const at = rows
      .filter(({ target }) => path === target || target === '/' || path.startsWith(`${target}/`))
      .sort((a, b) => b.target.length - a.target.length)[0];
    // A directory that is no mount of its own is shared with nobody's container by itself.
    if (at !== undefined && at.target !== '/') found.add(`${at.device} ${at.root}`);
  }
  return found;
}

function hasMounted(mountinfo: string, mounted: ReadonlySet<string>): boolean {
  return rowsOf(mountinfo).some(({ device, root }) => mounted.has(`${device} ${root}`));
}

function rowsOf(mountinfo: string): { readonly device: string; readonly root: string; readonly target: string }[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [, , device, root, target] = line.split(' ');
    if (device === undefined || root === undefined || target === undefined) return [];
    return [{ device, root: unescaped(root), target: unescaped(target) }];
  });
}

function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function hasOpen(base: string, paths: readonly string[]): boolean {
  const isBelow = (path: string | undefined): boolean =>
    path !== undefined && paths.some((volume) => path === volume || path.startsWith(`${volume}/`));
  if (isBelow(readLink(`${base}/cwd`)) || isBelow(readLink(`${base}/root`))) return true;
  for (const name of namesIn(`${base}/fd`)) if (isBelow(readLink(`${base}/fd/${name}`))) return true;
  return (readText(`${base}/maps`) ?? '').split('\n').some((line) => {
    const at = line.indexOf('/');
    return at >= 0 && isBelow(line.slice(at));
  });
}

function namesIn(path: string): readonly string[] {
  return attempt(() => readdirSync(path)) ?? [];
}

function readText(path: string): string | undefined {
  return attempt(() => readFileSync(path, 'utf8'));
}

function readLink(path: string): string | undefined {
  return attempt(() => readlinkSync(path));
}

/** What cannot be read, because it is gone or another's, is undefined. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
