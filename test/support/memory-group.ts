/** A group of processes with a limit of memory, as a container has one: cgroup v1 or v2, in a mount namespace where it is all that is seen. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const root = '/sys/fs/cgroup';

interface Hierarchy {
  readonly path: string;
  readonly limit: string;
  readonly usage: string;
  readonly kills: string;
}

const v1: Hierarchy = {
  path: join(root, 'memory'),
  limit: 'memory.limit_in_bytes',
  usage: 'memory.usage_in_bytes',
  kills: 'memory.oom_control',
};
const v2: Hierarchy = { path: root, limit: 'memory.max', usage: 'memory.current', kills: 'memory.events' };

export class MemoryGroup implements AsyncDisposable {
  readonly #hierarchy: Hierarchy;
  readonly #path: string;

  private constructor(hierarchy: Hierarchy, path: string) {
    this.#hierarchy = hierarchy;
    this.#path = path;
  }

  /** Undefined where this machine lets nobody make one. */
  static make(bytesMax: number): MemoryGroup | undefined {
    const hierarchy = existsSync(join(v1.path, v1.limit)) ? v1 : v2;
    const path = join(hierarchy.path, `holdfast-test-${process.pid}-${Date.now()}`);
    try {
      mkdirSync(path);
      writeFileSync(join(path, hierarchy.limit), String(bytesMax));
      return new MemoryGroup(hierarchy, path);
    } catch {
      return undefined;
    }
  }

  /** Runs a command in it. */
  get under(): readonly string[] {
    const script =
      'group=$1; seen=$2; shift 2; echo $$ > "$group/cgroup.procs"; mount --bind "$group" "$seen"; exec "$@"';
    return ['unshare', '--mount', 'sh', '-ec', script, 'sh', this.#path, this.#hierarchy.path];
  }

  /** What is charged to it now: memory of its processes, and what of files it has brought into the page cache. */
  get bytes(): number {
    return Number(this.#read(this.#hierarchy.usage));
  }

  get kills(): number {
    return Number(/^oom_kill (\d+)/m.exec(this.#read(this.#hierarchy.kills))?.[1] ?? Number.NaN);
  }

  /** Memory of its processes alone. */
  get anonymousBytes(): number {
    return Number(/^(?:rss|anon) (\d+)/m.exec(this.#read('memory.stat'))?.[1] ?? Number.NaN);
  }

  #read(name: string): string {
    return readFileSync(join(this.#path, name), 'latin1');
  }

  /** Once its processes have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let left = 100; ; left--) {
      try {
        rmdirSync(this.#path);
        return;
      } catch (error) {
        if (left === 0) throw error;
        await sleep(50);
      }
    }
  }
}
