/** A small file system in memory, which can be full. */
import { execFileSync } from 'node:child_process';
import { closeSync, cpSync, openSync, renameSync, rmSync, mkdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Mounts are for root. */
export const canMount: boolean = process.platform === 'linux' && process.getuid?.() === 0;

export class Tmpfs implements Disposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** An empty one on a directory that is there. */
  static on(path: string, mebibytes: number): Tmpfs {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path]);
    return new Tmpfs(path);
  }

  /** In place of a directory, with what that holds. */
  static over(path: string, mebibytes: number): Tmpfs {
    const before = `${path}-before`;
    renameSync(path, before);
    mkdirSync(path);
    const mounted = Tmpfs.on(path, mebibytes);
    cpSync(before, path, { recursive: true, preserveTimestamps: true });
    rmSync(before, { recursive: true });
    return mounted;
  }

  get #ballast(): string {
    return join(this.path, 'ballast');
  }

  /** Until not a byte more fits. */
  fill(): void {
    const file = openSync(this.#ballast, 'a');
    try {
      for (const bytes of [1 << 20, 4096]) {
        const block = new Uint8Array(bytes);
        while (hasRoom(() => writeSync(file, block)));
      }
    } finally {
      closeSync(file);
    }
  }

  makeRoom(): void {
    rmSync(this.#ballast, { force: true });
  }

  readOnly(): void {
    execFileSync('mount', ['-o', 'remount,ro', this.path]);
  }

  writable(): void {
    execFileSync('mount', ['-o', 'remount,rw', this.path]);
  }

  [Symbol.dispose](): void {
    execFileSync('umount', ['--lazy', this.path]);
  }
}

function hasRoom(write: () => unknown): boolean {
  try {
    write();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    return false;
  }
}
