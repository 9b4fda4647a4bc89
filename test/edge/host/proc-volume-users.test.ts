import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { procVolumeUsers } from '../../../src/edge/host/proc-volume-users.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-users-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

async function running(program: string, cwd = '/'): Promise<ChildProcess & AsyncDisposable> {
  const child = spawn('sh', ['-c', program], { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  const ended = new Promise((resolve) => child.once('exit', resolve));
  return Object.assign(child, {
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  });
}

describe('who uses a directory', () => {
  test('are processes with something open below it, or that stand in it, and nobody else', async () => {
    const volume = join(directory, 'vol');
    mkdirSync(volume);
    mkdirSync(join(directory, 'volume-beside'));
    const find = (): number[] =>
      procVolumeUsers()
        .find([volume])
        .users.map(({ pid }) => pid);
    expect(find()).toEqual([]);
    const open = 'echo; read -r line <&3';
    {
      await using beside = await running(
        `exec 3<>${directory}/volume-beside/file; exec 4<>/dev/null; mkfifo ${directory}/f; exec 3<>${directory}/f; ${open}`,
      );
      await using holder = await running(`mkfifo ${volume}/f; exec 3<>${volume}/f; ${open}`);
      await using standing = await running(`mkfifo ${directory}/g; exec 3<>${directory}/g; ${open}`, volume);
      expect(find()).toEqual([holder.pid, standing.pid].sort((a, b) => (a ?? 0) - (b ?? 0)));
      expect(find()).not.toContain(beside.pid);
    }
    expect(find()).toEqual([]);
  });
});

/** A /proc as the kernel shows it to the agent: itself as 10, and another process. */
function makeProc(
  own: { readonly pidNamespace?: string; readonly mountinfo: string },
  other: { readonly mounts?: string; readonly mountinfo?: string; readonly state?: string },
): string {
  const proc = join(directory, 'proc');
  const make = (pid: number, mounts: string | undefined, mountinfo: string | undefined, state: string): void => {
    const base = join(proc, String(pid));
    mkdirSync(join(base, 'ns'), { recursive: true });
    mkdirSync(join(base, 'fd'));
    writeFileSync(join(base, 'status'), `Name:\tapp\nState:\t${state} (x)\nVmSize:\t1 kB\n`);
    if (mounts !== undefined) symlinkSync(mounts, join(base, 'ns/mnt'));
    symlinkSync(own.pidNamespace ?? 'pid:[4026532000]', join(base, 'ns/pid'));
    if (mountinfo !== undefined) writeFileSync(join(base, 'mountinfo'), mountinfo);
  };
  make(10, 'mnt:[1]', own.mountinfo, 'S');
  make(20, other.mounts, other.mountinfo, other.state ?? 'S');
  return proc;
}

const row = (root: string, target: string): string => `36 35 8:1 ${root} ${target} rw - ext4 /dev/sda1 rw\n`;
const ours = row('/pods/u/volumes/data', '/vol');

describe('in containers', () => {
  const find = (proc: string): ReturnType<ReturnType<typeof procVolumeUsers>['find']> =>
    procVolumeUsers(proc, 10).find(['/vol']);

  test('a process of another container that has the volume mounted counts, wherever it has it', () => {
    const proc = makeProc({ mountinfo: ours }, { mounts: 'mnt:[2]', mountinfo: row('/pods/u/volumes/data', '/cache') });
    expect(find(proc)).toEqual({ users: [{ pid: 20, command: 'app' }], complete: true });
  });

  test('one that has other volumes does not, and then nobody is there', () => {
    const proc = makeProc({ mountinfo: ours }, { mounts: 'mnt:[2]', mountinfo: row('/pods/u/volumes/other', '/vol') });
    expect(find(proc)).toEqual({ users: [], complete: true });
  });

  test('that nobody else is seen proves nothing without a shared namespace', () => {
    const proc = makeProc({ mountinfo: ours }, { mounts: 'mnt:[1]' });
    expect(find(proc)).toEqual({ users: [], complete: false });
  });

  test('a process that may not be looked at leaves it open', () => {
    const proc = makeProc({ mountinfo: ours }, { mountinfo: ours });
    expect(find(proc)).toEqual({ users: [], complete: false });
  });

  test('one that has ended and is not collected yet is nobody', () => {
    const proc = makeProc({ mountinfo: ours }, { mounts: 'mnt:[2]', mountinfo: ours, state: 'Z' });
    expect(find(proc).users).toEqual([]);
  });
});
