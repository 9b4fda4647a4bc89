/**
 * The repositories whose bytes are stored in this folder, made by the engine's own code on a disk in memory, with fixed keys,
 * a clock that is set by hand and seeded chance: made twice, they are equal byte for byte.
 */
import { readFileSync } from 'node:fs';
import { keyRingFromText } from '../../src/edge/host/file-key-ring.ts';
import type { CaptureOutcome } from '../../src/engine/capture/capture-outcome.ts';
import type { CaptureSettings } from '../../src/engine/capture/capture-request.ts';
import { makeSelection } from '../../src/engine/capture/select.ts';
import { logKey } from '../../src/engine/format/object-keys.ts';
import { createRepository, domainOf } from '../../src/engine/lineage/repository.ts';
import { toHex, utf8Bytes } from '../../src/engine/model/bytes.ts';
import { toLineageName, toSlot, toVolumeName } from '../../src/engine/model/ids.ts';
import type { KeyRing } from '../../src/engine/ports/key-ring.ts';
import type { ObjectWriter } from '../../src/engine/ports/object-store.ts';
import { ManualClock, Pod, seededRandom } from '../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../support/memory-file-tree.ts';

export const goldenHolder = 'golden-holder';
export const goldenLineage = 'golden/app/0';
/** Made for these repositories alone: it protects nothing. */
export const goldenKeyFile: URL = new URL('golden.key', import.meta.url);

export interface ExpectedCheckpoint {
  readonly slot: number;
  /** Hexadecimal root of the set. */
  readonly root: string;
  /** Per volume: one line a name, as test/support/tree-snapshot.ts says them. */
  readonly volumes: Readonly<Record<string, readonly string[]>>;
  /** Per volume: what the record names as volatile. */
  readonly volatile: Readonly<Record<string, readonly string[]>>;
}

export interface Expected {
  readonly encryption: 'aes-256-gcm' | 'none';
  /** Kinds of the records in the log, oldest first, as far as they are there. */
  readonly log: readonly string[];
  /** CHECKPOINTs, oldest first. */
  readonly checkpoints: readonly ExpectedCheckpoint[];
  /** What the volumes held when a capture was cut off that never came to its checkpoint. */
  readonly unfinished?: Omit<ExpectedCheckpoint, 'slot'>;
  readonly sealed: boolean;
}

export interface Specimen {
  readonly name: string;
  /** Fills the empty store. */
  make(store: MutableStore): Promise<Expected>;
}

/** Some specimens need what no writer may do. */
export interface MutableStore extends ObjectWriter {
  remove(key: string): Promise<void>;
}

export function goldenKeyRing(): KeyRing {
  return keyRingFromText(readFileSync(goldenKeyFile, 'utf8'), seededRandom('golden wrapping'), 'the golden key');
}

/** Lines of text that compress well and still differ everywhere. */
function text(seed: number, bytes: number): Uint8Array {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  let out = '';
  for (let line = 0; out.length < bytes; line++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    out += `${line} of ${seed}: ${'holdfast '.repeat(state % 5)}${state.toString(36)}\n`;
  }
  return utf8Bytes(out.slice(0, bytes));
}

/** Bytes that do not compress, for a pack that is worth its name. */
function noise(seed: string, bytes: number): Uint8Array {
  return seededRandom(`golden noise ${seed}`).bytes(bytes);
}

const day = Date.UTC(2026, 0, 1) / 1000;

/** All kinds of names, metadata and content that an entry can hold. */
function fill(disk: MemoryFileSystem, top: string): void {
  disk.mkdir(top);
  const at = (path: string): string => `${top}/${path}`;
  disk.writeFile(at('app.log'), text(1, 9000));
  disk.writeFile(at('empty'), '');
  disk.mkdir(at('conf.d'), { mode: 0o1750 });
  disk.writeFile(at('conf.d/app.json'), '{"name":"app","replicas":3}\n', { mode: 0o640 });
  disk.writeFile(at('conf.d/run'), '#!/bin/sh\n', { mode: 0o4755 });
  disk.chown(at('conf.d/app.json'), 1000, 2000);
  disk.mkdir(at('nothing/at/all'));
  disk.symlink(at('conf'), 'conf.d');
  disk.symlink(at('dangling'), Uint8Array.of(0x2f, 0xff, 0xfe, 0x20));
  disk.fifo(at('pipe'));
  // Chunks of their own: a list, beyond the eight that stand in the entry.
  const pages = text(2, 170_000);
  pages.set(utf8Bytes('SQLite format 3\0'));
  disk.writeFile(at('pages.db'), pages);
  disk.writeFile(at('pages.db-wal'), text(8, 3000));
  disk.writeFile(at('pages.db-shm'), text(9, 2000));
  disk.writeAt(at('sparse'), 1_000_000, 'after a hole');
  disk.writeAt(at('sparse'), 40_000_000, 'after a larger one');
  disk.resize(at('sparse'), 41_000_000);
  disk.writeFile(at('zeros'), new Uint8Array(200_000));
  disk.writeFile(at('first'), 'one file, three names\n');
  disk.link(at('first'), at('second'));
  disk.link(at('first'), at('nothing/third'));
  disk.writeFile(at('labelled'), 'attributes');
  disk.setXattr(at('labelled'), 'user.mime_type', 'text/plain');
  disk.setXattr(at('labelled'), 'user.empty', '');
  disk.setXattr(at('labelled'), 'user.large', text(3, 1500));
  disk.setXattr(at('conf.d'), 'user.owner', 'ops');
  for (const name of [
    Uint8Array.of(0xff, 0xfe, 0x80),
    utf8Bytes('zwölf €'),
    utf8Bytes('line\nbreak\ttab'),
    utf8Bytes('x'.repeat(255)),
  ]) {
    disk.writeFile(Uint8Array.from([...utf8Bytes(`${top}/`), ...name]), `named by ${name.length} bytes`);
  }
  const deep = Array.from({ length: 25 }, (_, i) => `level-${i}`).join('/');
  disk.mkdir(at(deep));
  disk.writeFile(at(`${deep}/bottom`), 'deep down');
  // Enough names for a tree of two levels.
  for (let i = 0; i < 60; i++)
    disk.writeFile(at(`many/${String(i).padStart(3, '0')}-of-sixty`.replace('many/', 'many-')), `${i}`);
  disk.setMtime(at('conf.d/app.json'), -86_400, 123_456_789);
  disk.setMtime(at('conf'), day, 999_999_999);
  disk.setMtime(at('empty'), 7_000_000_000, 1);
  disk.setMtime(at('nothing/at/all'), 1);
}

function change(disk: MemoryFileSystem, top: string): void {
  disk.writeAt(`${top}/app.log`, 9000, text(4, 500));
  disk.remove(`${top}/empty`);
  disk.rename(`${top}/conf.d/run`, `${top}/conf.d/start`);
  disk.writeFile(`${top}/added`, text(5, 3000));
  disk.chmod(`${top}/pipe`, 0o600);
  disk.writeAt(`${top}/pages.db`, 100_000, 'a page has changed');
  disk.writeAt(`${top}/pages.db-shm`, 100, 'an index has changed');
}

interface Workshop {
  readonly disk: MemoryFileSystem;
  readonly pod: Pod;
  readonly clock: ManualClock;
}

async function open(name: string, store: ObjectWriter, keyRing: KeyRing | undefined): Promise<Workshop> {
  const clock = new ManualClock(Date.UTC(2026, 0, 1));
  const random = seededRandom(`golden ${name}`);
  const encryption = keyRing === undefined ? 'none' : 'aes-256-gcm';
  const repository = await createRepository({ keyRing, encryption }, { store, clock, random });
  const lineage = toLineageName(goldenLineage);
  const access = await repository.openOrMakeDomain(domainOf(lineage), { store, clock, random });
  const disk = new MemoryFileSystem({ clock });
  const files = new MemoryFileTree(disk);
  const pod = await Pod.start({ store, access, clock, random, files, lineage, holder: goldenHolder });
  return { disk, pod, clock };
}

async function capture(
  { disk, pod, clock }: Workshop,
  volumes: readonly string[],
  settings: Partial<CaptureSettings> = {},
): Promise<{ readonly outcome: CaptureOutcome; readonly expected: ExpectedCheckpoint }> {
  clock.ms += 3_600_000;
  const outcome = await pod.capture({
    volumes: volumes.map((name) => ({ name: toVolumeName(name), path: name, selection: makeSelection([], []) })),
    ...settings,
  });
  return {
    outcome,
    expected: {
      slot: outcome.committed?.slot ?? 0,
      root: toHex(outcome.root),
      volumes: Object.fromEntries(volumes.map((name) => [name, disk.describe(name)])),
      volatile: Object.fromEntries(volumes.map((name) => [name, name === 'data' ? ['pages.db-shm'] : []])),
    },
  };
}

/** Two checkpoints of one volume, all of whose bytes travel in the records. */
function inlined(name: string, keyRing: () => KeyRing | undefined): Specimen {
  return {
    name,
    async make(store) {
      const workshop = await open(name, store, keyRing());
      fill(workshop.disk, 'data');
      const first = await capture(workshop, ['data'], { labels: { purpose: 'golden', stage: 'first' } });
      change(workshop.disk, 'data');
      const second = await capture(workshop, ['data']);
      return expected(keyRing(), ['CLAIM', 'CHECKPOINT', 'CHECKPOINT'], [first.expected, second.expected], false);
    },
  };
}

/** Two volumes and an empty one, in packs of their own, with a SEAL. */
function packed(name: string, keyRing: () => KeyRing | undefined): Specimen {
  return {
    name,
    async make(store) {
      const workshop = await open(name, store, keyRing());
      const { disk, pod } = workshop;
      fill(disk, 'data');
      disk.mkdir('logs/old');
      disk.writeFile('logs/today', text(6, 20_000));
      disk.writeFile('logs/noise', noise('a', 10_000));
      disk.mkdir('nothing-in-it');
      const volumes = ['data', 'logs', 'nothing-in-it'];
      const small: Partial<CaptureSettings> = {
        inlineBytesMax: 0,
        dataSegmentBytes: 64 * 1024,
        metaSegmentBytes: 4096,
      };
      const first = await capture(workshop, volumes, small);
      change(disk, 'data');
      disk.rename('logs/today', 'logs/old/yesterday');
      disk.writeFile('logs/today', text(7, 5000));
      const second = await capture(workshop, volumes, small);
      disk.writeFile('data/last', 'words');
      const third = await capture(workshop, volumes, { ...small, final: true, quiesced: true });
      await (await pod.writer()).seal();
      const checkpoints = [first.expected, second.expected, third.expected];
      return expected(keyRing(), ['CLAIM', 'CHECKPOINT', 'CHECKPOINT', 'CHECKPOINT', 'SEAL'], checkpoints, true);
    },
  };
}

/** What the captures with anchors see: more than one batch of names and bytes, so that there is something to anchor. */
export function fillLarge(disk: MemoryFileSystem): void {
  fill(disk, 'data');
  for (let i = 0; i < 40; i++) {
    const line = text(100 + i, 1000);
    const content = new Uint8Array(120_000).map((_, at) => line[at % line.length] as number);
    disk.writeFile(`data/big-${String(i).padStart(2, '0')}`, content);
  }
}

export const anchoredSettings: Partial<CaptureSettings> = {
  partialBytes: 4000,
  packBytesTarget: 40_000,
  inlineBytesMax: 0,
};

/** A first capture with anchors; with `cutOff`, killed before its checkpoint: the log ends in a PARTIAL. */
function anchored(name: string, keyRing: () => KeyRing | undefined, cutOff: boolean): Specimen {
  return {
    name,
    async make(store) {
      const workshop = await open(name, store, keyRing());
      fillLarge(workshop.disk);
      const done = await capture(workshop, ['data'], anchoredSettings);
      const { partials } = done.outcome;
      if (partials === 0) throw new Error(`${name} has no PARTIAL`);
      const log = ['CLAIM', ...Array.from({ length: partials }, () => 'PARTIAL')];
      if (!cutOff) return expected(keyRing(), [...log, 'CHECKPOINT'], [done.expected], false);
      await store.remove(logKey(toLineageName(goldenLineage), toSlot(done.expected.slot)));
      const { slot: _, ...unfinished } = done.expected;
      return { ...expected(keyRing(), log, [], false), unfinished };
    },
  };
}

function expected(
  keyRing: KeyRing | undefined,
  log: readonly string[],
  checkpoints: readonly ExpectedCheckpoint[],
  sealed: boolean,
): Expected {
  return { encryption: keyRing === undefined ? 'none' : 'aes-256-gcm', log, checkpoints, sealed };
}

const none = (): undefined => undefined;

export const specimens: readonly Specimen[] = [
  inlined('plain-inlined', none),
  inlined('encrypted-inlined', goldenKeyRing),
  packed('plain-packs', none),
  packed('encrypted-packs', goldenKeyRing),
  anchored('encrypted-partial', goldenKeyRing, false),
  anchored('plain-cut-off', none, true),
];
