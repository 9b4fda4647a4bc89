/** A small repository in memory with two checkpoints, and what becomes of it when single bytes or whole objects change. */
import { expect } from 'vitest';
import { chooseCompressor } from '../../src/edge/host/choose-compressor.ts';
import { MemoryStore } from '../../src/edge/store/memory-store.ts';
import { LineageLog } from '../../src/engine/lineage/log.ts';
import { createRepository, domainOf, openRepository, type DomainAccess } from '../../src/engine/lineage/repository.ts';
import type { CheckpointSelector } from '../../src/engine/lineage/resolve.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import { type LineageName, type Slot, toLineageName } from '../../src/engine/model/ids.ts';
import type { KeyRing } from '../../src/engine/ports/key-ring.ts';
import { findCheckpoint } from '../../src/engine/rehydrate/restore-source.ts';
import { verifyCheckpoint, voidRecords } from '../../src/engine/rehydrate/verify.ts';
import { goldenKeyRing } from '../golden/specimens.ts';
import { ManualClock, Pod, seededRandom } from '../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../support/memory-file-tree.ts';
import { noLanes, restore } from '../support/restore-fixture.ts';

const compressor = await chooseCompressor('zlib');
const noFiles = new MemoryFileTree(new MemoryFileSystem());

export interface Verdict {
  /** What `verify --read-data` says: nothing, or codes and objects. */
  readonly verify: string;
  /** What `restore` says: the slot whose tree it has brought back exactly, or a code. */
  readonly restore: number | string;
  readonly error: HoldfastError | undefined;
}

export class SmallRepository {
  readonly store: MemoryStore;
  readonly lineage: LineageName;
  readonly keyRing: KeyRing | undefined;
  /** By slot: every name of the volume as it was. */
  readonly trees: ReadonlyMap<number, readonly string[]>;
  readonly keys: readonly string[];

  private constructor(
    store: MemoryStore,
    lineage: LineageName,
    keyRing: KeyRing | undefined,
    trees: ReadonlyMap<number, readonly string[]>,
    keys: readonly string[],
  ) {
    this.store = store;
    this.lineage = lineage;
    this.keyRing = keyRing;
    this.trees = trees;
    this.keys = keys;
  }

  /** `inlined`: nothing but records; else each checkpoint has a pack of several segments. */
  static async make(options: { readonly encrypted: boolean; readonly inlined: boolean }): Promise<SmallRepository> {
    const store = new MemoryStore();
    const keyRing = options.encrypted ? goldenKeyRing() : undefined;
    const [clock, random] = [new ManualClock(), seededRandom('small repository')];
    const encryption = options.encrypted ? 'aes-256-gcm' : 'none';
    const repository = await createRepository({ keyRing, encryption }, { store, clock, random });
    const lineage = toLineageName('team/app/0');
    const access = await repository.openOrMakeDomain(domainOf(lineage), { store, clock, random });
    const disk = new MemoryFileSystem({ clock });
    const pod = await Pod.start({ store, access, clock, random, lineage, files: new MemoryFileTree(disk) });
    disk.mkdir('data/below');
    disk.writeFile('data/one', 'the first file');
    disk.writeFile('data/below/two', 'the second file');
    disk.link('data/one', 'data/three');
    disk.symlink('data/below/link', '../one');
    if (!options.inlined) for (let i = 0; i < 6; i++) disk.writeFile(`data/large-${i}`, random.bytes(5000 + i));
    const settings = options.inlined
      ? {}
      : { inlineBytesMax: 0, dataSegmentBytes: 8192, metaSegmentBytes: 1024, packBytesTarget: 1024 * 1024 };
    const trees = new Map<number, readonly string[]>();
    for (let round = 0; round < 2; round++) {
      clock.ms += 60_000;
      const { committed } = await pod.capture({ path: 'data', ...settings });
      trees.set(committed?.slot ?? 0, disk.describe('data'));
      disk.writeFile('data/below/two', 'the second file, changed');
      disk.writeFile('data/new', 'came later');
      if (!options.inlined) disk.writeFile('data/large-9', random.bytes(9000));
      clock.ms += 60_000;
    }
    const keys = (await store.list('v1/')).map(({ key }) => key);
    return new SmallRepository(store, lineage, keyRing, trees, keys);
  }

  async bytesOf(key: string): Promise<Uint8Array> {
    return (await this.store.get(key, { bytesMax: 1e9 })) as Uint8Array;
  }

  get newestSlot(): number {
    return Math.max(...this.trees.keys());
  }

  get logKeys(): string[] {
    return this.keys.filter((key) => key.includes('/log/'));
  }

  get packKeys(): string[] {
    return this.keys.filter((key) => key.includes('/pk/'));
  }

  async #open(): Promise<DomainAccess> {
    const repository = await openRepository(this.store, { keyRing: this.keyRing });
    return await repository.openDomain(domainOf(this.lineage));
  }

  /** Looks at the store as it is now: verifies everything, and restores into an empty directory. */
  async judge(
    at: CheckpointSelector = { by: 'latest', back: 0 },
    lineage: LineageName = this.lineage,
  ): Promise<Verdict> {
    const verify = await saying(() => this.#verify(lineage));
    const disk = new MemoryFileSystem();
    const files = new MemoryFileTree(disk);
    let error: HoldfastError | undefined;
    let restored: number | string;
    try {
      const access = await this.#open();
      const { store } = this;
      const outcome = await restore({ store, lineage, access, files, path: 'out', at });
      expect(outcome.rootGot, 'the root of what was restored').toEqual(outcome.rootExpected);
      expect(disk.describe('out'), 'a wrong restore').toEqual(this.trees.get(outcome.slot));
      restored = outcome.slot;
    } catch (caught) {
      if (!(caught instanceof HoldfastError)) throw caught;
      error = caught;
      restored = caught.code;
      // What a failed restore leaves is right as far as it goes: no file stands there with other content.
      if (disk.exists('out')) {
        const wanted = [...this.trees.values()].map(contentsOf);
        for (const [path, content] of contentsOf(disk.describe('out'))) {
          expect(
            wanted.map((tree) => tree.get(path)),
            `${path} after ${caught.code}`,
          ).toContain(content);
        }
      }
    }
    expect(files.openDescriptors, 'descriptors left open').toEqual([]);
    return { verify, restore: restored, error };
  }

  async #verify(lineage: LineageName): Promise<string> {
    const access = await this.#open();
    const { store } = this;
    const log = new LineageLog(store, access, lineage);
    const found: string[] = [];
    for await (const { key, reason } of voidRecords(log)) found.push(`void ${key} ${reason}`);
    const valid: Slot[] = [];
    for await (const record of log.records()) if (record.header.kind === 'CHECKPOINT') valid.push(record.header.slot);
    if (valid.length === 0) found.push('no checkpoint');
    for (const slot of valid) {
      const source = await findCheckpoint(log, access, { by: 'slot', slot });
      const ports = { store, compressor, lanes: noLanes, files: noFiles };
      const { damage, sound } = await verifyCheckpoint(ports, source, {
        readData: true,
        laneCount: 0,
        inFlightBytes: 1024 * 1024,
      });
      if (!sound) found.push(...damage.objects.map(({ key }) => `damaged ${key}`), `${damage.files} files`);
    }
    return found.join('; ');
  }

  /** Runs `look` while the object has other bytes, or is gone; puts it back. */
  async while(key: string, bytes: Uint8Array | undefined, look: () => Promise<void>): Promise<void> {
    const whole = await this.bytesOf(key);
    this.store.damage(key, bytes);
    try {
      await look();
    } finally {
      if (bytes === undefined) await this.store.create(key, whole);
      else this.store.damage(key, whole);
    }
  }
}

async function saying(work: () => Promise<string>): Promise<string> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    return `${error.code} ${error.message}`;
  }
}

/** Regular files of a description: path → size and digest. */
function contentsOf(lines: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of lines) {
    const [, path, content] = /^(.*) 10[0-7]{4} .* (\d+ [0-9a-f]{24})$/s.exec(line) ?? [];
    if (path !== undefined && content !== undefined) found.set(path, content);
  }
  return found;
}

/** Codes with which a damaged store may refuse; anything else is a crash or a lie. */
export const damageCodes: RegExp =
  /^E_(DAMAGED|HOSTILE|EXPECTED_MISSING|NOT_FOUND|KEY_WRONG|REPOSITORY_MISSING|ENCRYPTION_MISMATCH|FORMAT_NEWER)$/;

export function flipped(bytes: Uint8Array, at: number, bit: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = (copy[at] as number) ^ (1 << bit);
  return copy;
}
