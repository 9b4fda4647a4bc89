import { describe, expect, it } from 'vitest';
import { ForgivingCache } from '../../../src/edge/host/forgiving-cache.ts';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import type { CacheWriter, LocalCache, ScratchFile } from '../../../src/engine/ports/local-cache.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryCache } from '../../support/memory-cache.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

/** A disk that is full from some write on, and frees what is given up. */
class FullCache extends MemoryCache {
  readonly written: string[] = [];
  aborted = 0;
  #writesMax: number;

  constructor(writesMax: number) {
    super();
    this.#writesMax = writesMax;
  }

  makeRoom(): void {
    this.#writesMax = Number.POSITIVE_INFINITY;
  }

  override create(name: string): CacheWriter {
    const inner = super.create(name);
    return {
      append: (bytes) => this.#write('append', () => inner.append(bytes)),
      commit: (tail) => this.#write('commit', () => inner.commit(tail)),
      abort: () => {
        this.aborted++;
      },
    };
  }

  override scratch(): ScratchFile {
    const inner = super.scratch();
    return { ...inner, append: (bytes) => this.#write('scratch', () => inner.append(bytes)) };
  }

  #write<T>(what: string, work: () => T): T {
    this.written.push(what);
    if (this.written.length > this.#writesMax) throw new HoldfastError('E_STATE_DIR', 'cannot write: ENOSPC');
    return work();
  }
}

async function twoCheckpoints(cache: LocalCache): Promise<string[]> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock });
  for (let n = 0; n < 300; n++) disk.writeFile(`file-${n}`, `content ${n}`);
  clock.ms += 60_000;
  const pod = await Pod.start({ files: new MemoryFileTree(disk), clock, cache });
  const first = await pod.capture();
  disk.writeFile('file-7', 'changed');
  clock.ms += 60_000;
  const second = await pod.capture();
  return [first, second].map(({ root }) => toHex(root));
}

describe('a cache on a full disk', () => {
  it('is done without, and every checkpoint is what it is without a cache', async () => {
    const plenty = new FullCache(Number.POSITIVE_INFINITY);
    const expected = await twoCheckpoints(new ForgivingCache(plenty, () => expect.unreachable()));
    expect(plenty.written.length).toBeGreaterThan(10);
    for (let writes = 0; writes < plenty.written.length; writes++) {
      const failures: string[] = [];
      const full = new FullCache(writes);
      expect(await twoCheckpoints(new ForgivingCache(full, ({ code }) => failures.push(code)))).toEqual(expected);
      expect(failures).toEqual(['E_STATE_DIR']);
      // Asked once, and what was half written is given back.
      expect(full.written.length).toBe(writes + 1);
      expect(full.aborted).toBeGreaterThanOrEqual(1);
    }
  });

  it('is used again when there is room, and then tells what has not changed', async () => {
    const clock = new ManualClock();
    const disk = new MemoryFileSystem({ clock });
    disk.writeFile('file', 'content');
    clock.ms += 60_000;
    const full = new FullCache(0);
    const cache = new ForgivingCache(full, () => undefined);
    const pod = await Pod.start({ files: new MemoryFileTree(disk), clock, cache });
    expect(await pod.capture()).toMatchObject({ consistency: 'fuzzy' });
    expect(cache.tryAgain()).toBe(true);
    disk.writeFile('file', 'changed');
    clock.ms += 60_000;
    expect(await pod.capture()).toMatchObject({ consistency: 'fuzzy' });
    full.makeRoom();
    expect(cache.tryAgain()).toBe(true);
    disk.writeFile('file', 'changed again');
    clock.ms += 60_000;
    expect(await pod.capture()).toMatchObject({ consistency: 'converged' });
    expect(cache.tryAgain()).toBe(false);
  });

  it('keeps the scratch data of the run in memory from then on', () => {
    const scratch = new ForgivingCache(new FullCache(2), () => undefined).scratch();
    const parts = ['one', 'two', 'three', 'four'].map((text) => new TextEncoder().encode(text));
    const places = parts.map((part) => scratch.append(part));
    expect(places).toEqual([0, 3, 6, 11]);
    for (const [i, part] of parts.entries()) {
      const into = new Uint8Array(part.length);
      scratch.read(places[i] as number, into);
      expect(into).toEqual(part);
    }
  });

  it('hides no other error', () => {
    const broken = new MemoryCache();
    broken.names = () => {
      throw new HoldfastError('E_INTERNAL', 'a defect');
    };
    expect(() => new ForgivingCache(broken, () => undefined).names()).toThrow('a defect');
  });
});
