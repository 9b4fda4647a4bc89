import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createKeyFile } from '../../../src/edge/host/file-key-ring.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { logKey, toPackName } from '../../../src/engine/format/object-keys.ts';
import { type LogRecord, readRecord } from '../../../src/engine/format/record.ts';
import { type ClaimOptions, claimLineage } from '../../../src/engine/lineage/claim.ts';
import type {
  CommitRequest,
  Committed,
  FinishedPack,
  LineageWriter,
} from '../../../src/engine/lineage/lineage-writer.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import {
  createRepository,
  type DomainAccess,
  domainOf,
  type Repository,
} from '../../../src/engine/lineage/repository.ts';
import { concatBytes } from '../../../src/engine/model/bytes.ts';
import type { VolumeCheckpoint } from '../../../src/engine/model/checkpoint.ts';
import { HoldfastError, invariant } from '../../../src/engine/model/errors.ts';
import {
  type HolderId,
  type LineageName,
  type Slot,
  toHolderId,
  toLineageName,
  toNodeId,
  toSlot,
  toVolumeName,
} from '../../../src/engine/model/ids.ts';
import type { Clock } from '../../../src/engine/ports/clock.ts';
import type { HolderState, HolderStore } from '../../../src/engine/ports/holder-store.ts';
import type { KeyRing } from '../../../src/engine/ports/key-ring.ts';
import type { Liveness } from '../../../src/engine/ports/liveness.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  WaitOptions,
} from '../../../src/engine/ports/object-store.ts';
import type { RandomSource } from '../../../src/engine/ports/random.ts';

/** The same bytes in every run. */
export function seededRandom(seed: string): RandomSource {
  let count = 0;
  return {
    bytes: (length) => {
      const blocks: Uint8Array[] = [];
      for (let made = 0; made < length; made += 32) {
        blocks.push(createHash('sha256').update(`${seed} ${count++}`).digest());
      }
      return new Uint8Array(concatBytes(blocks).subarray(0, length));
    },
  };
}

/** Time that passes when somebody waits. */
export class TestClock implements Clock {
  ms = 1_767_225_600_000;
  readonly waits: number[] = [];

  nowMs(): number {
    return this.ms;
  }

  monotonicMs(): number {
    return this.ms;
  }

  async wait(ms: number): Promise<void> {
    this.waits.push(ms);
    this.ms += ms;
  }
}

/** A repository key, the same in every run for one seed. */
export async function keyRingOf(seed: string): Promise<KeyRing> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-key-'));
  try {
    return await createKeyFile(join(directory, 'key'), seededRandom(`key ${seed}`));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** What happens to the next create, in order. */
export type CreateFault =
  | 'ok'
  /** The object is made, the reply is lost. */
  | 'lostReply'
  /** The request never arrives. */
  | 'lostRequest'
  /** No reply now; the object is made when `land` is called, if its key is still free. */
  | 'delayed'
  /** The process dies while it waits for the reply; `land` as above. */
  | 'killed'
  | 'full'
  | 'readOnly';

export class Killed extends Error {}

/** A memory store whose creates can be made to go wrong, one by one, and which counts requests. */
export class ScriptedStore implements ObjectWriter {
  readonly memory: MemoryStore;
  script: CreateFault[] = [];
  /** Runs before each create reaches the store. */
  beforeCreate: ((key: string, bytes: Uint8Array) => void | Promise<void>) | undefined;
  requests = { get: 0, list: 0, create: 0 };
  readonly #late: (() => Promise<CreateOutcome>)[] = [];

  constructor(memory: MemoryStore = new MemoryStore()) {
    this.memory = memory;
  }

  /** Lets the oldest delayed request arrive. */
  async land(): Promise<CreateOutcome> {
    const late = this.#late.shift();
    invariant(late !== undefined, 'a request is under way');
    return await late();
  }

  async create(key: string, bytes: Uint8Array, options: WaitOptions = {}): Promise<CreateOutcome> {
    this.requests.create++;
    await this.beforeCreate?.(key, bytes);
    const fault = this.script.shift() ?? 'ok';
    const sent = bytes.slice();
    switch (fault) {
      case 'ok':
        return await this.memory.create(key, sent, options);
      case 'lostReply':
        await this.memory.create(key, sent, options);
        throw new HoldfastError('E_STORE_UNREACHABLE', 'the reply was lost');
      case 'lostRequest':
        throw new HoldfastError('E_STORE_UNREACHABLE', 'the request was lost');
      case 'delayed':
      case 'killed':
        this.#late.push(() => this.memory.create(key, sent));
        throw fault === 'killed' ? new Killed() : new HoldfastError('E_STORE_UNREACHABLE', 'no reply');
      case 'full':
        throw new HoldfastError('E_STORE_FULL', 'no space');
      case 'readOnly':
        throw new HoldfastError('E_STORE_READ_ONLY', 'read-only');
    }
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    this.requests.get++;
    return await this.memory.get(key, options);
  }

  async list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]> {
    this.requests.list++;
    return await this.memory.list(prefix, options);
  }

  getRange(key: string, start: number, length: number, options?: WaitOptions): Promise<Uint8Array> {
    return this.memory.getRange(key, start, length, options);
  }

  stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined> {
    return this.memory.stat(key, options);
  }

  beginUpload(key: string, options?: WaitOptions): Promise<ObjectUpload> {
    return this.memory.beginUpload(key, options);
  }

  unfinished(): Promise<readonly UnfinishedUpload[]> {
    return this.memory.unfinished();
  }
}

/** A holder whose private directory is an object; it survives its process. */
export class MemoryHolder implements HolderStore {
  state: HolderState;

  constructor(holder: string) {
    this.state = { holder: toHolderId(holder), claims: [], last: undefined, includes: toSlot(0) };
  }

  async load(): Promise<HolderState> {
    return this.state;
  }

  async save(state: HolderState): Promise<void> {
    this.state = structuredClone(state);
  }
}

export class TestLiveness implements Liveness {
  readonly gone: Set<HolderId> = new Set();
  asked: HolderId[] = [];

  async isGone(holder: HolderId): Promise<'gone' | 'unknown'> {
    this.asked.push(holder);
    return this.gone.has(holder) ? 'gone' : 'unknown';
  }
}

export class World {
  readonly store: ScriptedStore;
  readonly clock: TestClock = new TestClock();
  readonly random: RandomSource;
  readonly liveness: TestLiveness = new TestLiveness();
  readonly lineage: LineageName;
  readonly repository: Repository;
  readonly access: DomainAccess;

  private constructor(parts: {
    store: ScriptedStore;
    random: RandomSource;
    lineage: LineageName;
    repository: Repository;
    access: DomainAccess;
  }) {
    this.store = parts.store;
    this.random = parts.random;
    this.lineage = parts.lineage;
    this.repository = parts.repository;
    this.access = parts.access;
  }

  static async make(options: { encryption?: 'aes-256-gcm' | 'none'; lineage?: string } = {}): Promise<World> {
    const { encryption = 'aes-256-gcm' } = options;
    const lineage = toLineageName(options.lineage ?? 'team/app/0');
    const store = new ScriptedStore();
    const random = seededRandom('world');
    const making = { store, random, clock: new TestClock() };
    const keyRing = encryption === 'none' ? undefined : await keyRingOf('repository');
    const repository = await createRepository({ keyRing, encryption }, making);
    const access = await repository.openOrMakeDomain(domainOf(lineage), making);
    return new World({ store, random, lineage, repository, access });
  }

  get log(): LineageLog {
    return new LineageLog(this.store, this.access, this.lineage);
  }

  claim(holder: MemoryHolder, options: Partial<ClaimOptions> = {}): Promise<LineageWriter> {
    const { store, access, lineage, clock, random, liveness } = this;
    const holderName = `pod of ${holder.state.holder}`;
    return claimLineage({
      store,
      access,
      lineage,
      holder,
      holderName,
      clock,
      random,
      liveness,
      policy: 'person',
      ...options,
    });
  }

  /** Bytes of a stored record. */
  async bytesAt(slot: number): Promise<Uint8Array | undefined> {
    return await this.store.memory.get(logKey(this.lineage, toSlot(slot)), { bytesMax: 10_000_000 });
  }

  async recordAt(slot: number): Promise<LogRecord> {
    const bytes = await this.bytesAt(slot);
    invariant(bytes !== undefined, `there is a record ${slot}`);
    const reading = readRecord(bytes, { ...this.access, lineage: this.lineage, slot: toSlot(slot) });
    invariant(reading.valid, `record ${slot} is valid`);
    return reading.record;
  }

  put(slot: number, bytes: Uint8Array): Promise<CreateOutcome> {
    return this.store.memory.create(logKey(this.lineage, toSlot(slot)), bytes);
  }

  /** What collection would do to a record. */
  async trim(...slots: number[]): Promise<void> {
    for (const slot of slots) await this.store.memory.delete(logKey(this.lineage, toSlot(slot)));
  }

  /** Kinds and slots of the valid records, oldest first: `1 CLAIM`, … */
  async story(): Promise<string[]> {
    const story: string[] = [];
    for await (const { header } of this.log.records())
      story.unshift(`${header.slot} ${header.kind} of ${header.holder}`);
    return story;
  }
}

/** A finished pack of that slot. */
export function packFor(writer: { slot: Slot; epoch: number }, pack = 0, bytes = 100): FinishedPack {
  const salt8 = createHash('sha256').update(`${writer.slot} ${pack} ${bytes}`).digest('hex').slice(0, 8);
  const { slot, epoch } = writer;
  return {
    name: toPackName({ slot, epoch, pack, salt8 }),
    slot,
    epoch,
    pack,
    bytes,
    footerBytes: 20,
    dataPlainBytes: 0,
    metaPlainBytes: 300,
  };
}

/** A volume whose tree has its root in that pack. */
export function volumeIn(pack: { slot: number; pack: number }, name = 'data', content = 'content'): VolumeCheckpoint {
  return {
    name: toVolumeName(name),
    root: {
      id: toNodeId(new Uint8Array(createHash('sha256').update(`${name} ${content}`).digest())),
      level: 0,
      nodeBytes: 300,
      place: { origin: 0, slot: pack.slot, pack: pack.pack, segment: 0, offset: 0 },
      sums: { files: 1, entries: 2, bytes: 1234 },
    },
    rootMeta: { mode: 0o755, uid: 1000, gid: 1000, mtimeSec: 1_700_000_000, mtimeNsec: 5, xattrs: [] },
    fuzzyCount: 0,
    fuzzyNames: [],
    volatileCount: 0,
    volatileNames: [],
    skipped: [],
    incomplete: false,
  };
}

/** What a capture of one small file asks for at the writer's slot now. */
export function requestFor(
  writer: LineageWriter,
  more: Partial<CommitRequest> & { content?: string } = {},
): CommitRequest {
  const { content, ...rest } = more;
  const summary = packFor(writer);
  return {
    kind: 'CHECKPOINT',
    volumes: [volumeIn(summary, 'data', content)],
    consistency: 'converged',
    suspect: false,
    newBytes: 1234,
    uploaded: [],
    inlined: [{ summary, bytes: new Uint8Array(summary.bytes).fill(7) }],
    referenced: [{ origin: 0, slot: summary.slot, pack: summary.pack }],
    ...rest,
  };
}

export function checkpoint(
  writer: LineageWriter,
  more: Partial<CommitRequest> & { content?: string } = {},
): Promise<Committed> {
  return writer.commit(requestFor(writer, more));
}
