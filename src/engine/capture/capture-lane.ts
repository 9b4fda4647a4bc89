/**
 * A capture lane: read → chunk → id → compress → seal → pack, all synchronous, for one job of names at a time.
 * It runs in a worker thread, or in the calling thread for small captures.
 */
import { createHmac } from 'node:crypto';
import type { DataKey, DomainKeys } from '../format/keys.ts';
import { type PackIdentity, type PackSummary, PackWriter } from '../format/pack.ts';
import { ByteReader, ByteWriter, utf8Bytes } from '../model/bytes.ts';
import type { Place } from '../model/entry.ts';
import { invariant } from '../model/errors.ts';
import { toSlot } from '../model/ids.ts';
import type { PackReference } from '../format/pack-entry.ts';
import type { Compressor } from '../ports/compressor.ts';
import type { Descriptor, FileTreeReader } from '../ports/file-tree.ts';
import type { LaneJob, LaneReply } from '../ports/lanes.ts';
import { laneJobKind, readHints, readStatus, statBytes } from './lane-job.ts';
import { type ChunkTarget, ContentReader } from './read-content.ts';
import { NameReader } from './read-name.ts';
import { SessionIndex } from './session-index.ts';

export interface PackSettings {
  readonly identity: Omit<PackIdentity, 'slot' | 'pack'>;
  readonly dataKey: DataKey;
  readonly level: number;
  readonly dataSegmentBytes: number;
  readonly metaSegmentBytes: number;
  /** A pack is ended when it has grown to this. */
  readonly packBytesTarget: number;
  /** Each chunk gets a frame of its own. */
  readonly isolated: boolean;
  /** 32 random bytes of this run alone: every pack's salt follows from them, its slot and its number. */
  readonly runSalt: Uint8Array;
}

/**
 * Salt of a pack, 32 bytes. The coordinator and the lane that makes the pack both know it, and so its name, without asking
 * each other; a run that begins again has another run salt.
 */
export function packSalt(runSalt: Uint8Array, slot: number, pack: number): Uint8Array {
  return new Uint8Array(createHmac('sha256', runSalt).update(`holdfast/1/pack-salt/${slot}/${pack}`).digest());
}

export interface CaptureLaneSettings {
  readonly keys: DomainKeys;
  readonly packs: PackSettings;
  /** Slot whose record will introduce the packs. */
  readonly slot: number;
  /** This lane makes the packs firstPack, firstPack + packStep, … */
  readonly firstPack: number;
  readonly packStep: number;
  readonly sessionMemory: SharedArrayBuffer;
}

export interface CaptureLanePorts {
  readonly files: FileTreeReader;
  readonly compressor: Compressor;
}

/** What a lane answers, as JSON, to a `finish` job. */
export interface FinishedLane {
  readonly packs: readonly PackSummary[];
  readonly references: readonly PackReference[];
}

export type EmitPackPart = (pack: number, bytes: Uint8Array, end: boolean) => void;

/** The packs that entries name, each once. */
export class PackReferences {
  readonly #seen = new Map<string, PackReference>();
  #last: Place | undefined;

  add(place: Place): void {
    const last = this.#last;
    if (last !== undefined && last.pack === place.pack && last.slot === place.slot && last.origin === place.origin) {
      return;
    }
    this.#last = place;
    const { origin, slot, pack } = place;
    this.#seen.set(`${origin}/${slot}/${pack}`, { origin, slot, pack });
  }

  list(): PackReference[] {
    return [...this.#seen.values()];
  }
}

const nothing = new Uint8Array(0);

/** Packs of one thread: opens one when bytes come, ends it when it has grown to its target. */
export class PackSequence implements ChunkTarget {
  readonly #settings: PackSettings;
  readonly #compressor: Compressor;
  readonly #emit: EmitPackPart;
  readonly #step: number;
  readonly references: PackReferences = new PackReferences();
  #slot: number;
  #next: number;
  #open: PackWriter | undefined;
  #openNumber = 0;
  #finished: PackSummary[] = [];

  constructor(
    settings: PackSettings,
    compressor: Compressor,
    emit: EmitPackPart,
    slot: number,
    first: number,
    step: number,
  ) {
    this.#settings = settings;
    this.#compressor = compressor;
    this.#emit = emit;
    this.#slot = slot;
    this.#next = first;
    this.#step = step;
  }

  addData(bytes: Uint8Array, start: number, end: number): Place {
    return this.#writer().addData(bytes, start, end);
  }

  endFrame(): void {
    this.#open?.endFrame();
  }

  addMetadata(node: Uint8Array): Place {
    return this.#writer().addMetadata(node);
  }

  refer(place: Place): void {
    this.references.add(place);
  }

  /** Ends the open pack; the packs ended since the last call. Following packs belong to `slot`. */
  finish(slot: number): PackSummary[] {
    this.#end();
    const finished = this.#finished;
    this.#finished = [];
    this.#slot = slot;
    return finished;
  }

  #writer(): PackWriter {
    const open = this.#open;
    if (open !== undefined) {
      if (open.emittedBytes < this.#settings.packBytesTarget && !open.full) return open;
      this.#end();
    }
    const number = this.#next;
    this.#next += this.#step;
    this.#openNumber = number;
    const { identity, dataKey, level, dataSegmentBytes, metaSegmentBytes, isolated } = this.#settings;
    this.#open = new PackWriter({
      identity: { ...identity, slot: toSlot(this.#slot), pack: number },
      dataKey,
      salt: packSalt(this.#settings.runSalt, this.#slot, number),
      compressor: this.#compressor,
      level,
      dataSegmentBytes,
      metaSegmentBytes,
      isolated,
      emit: (bytes) => this.#emit(number, bytes, false),
    });
    return this.#open;
  }

  #end(): void {
    if (this.#open === undefined) return;
    this.#finished.push(this.#open.finish());
    this.#open = undefined;
    this.#emit(this.#openNumber, nothing, true);
  }
}

/** Runs read jobs against any target of chunks. */
export class ReadJobRunner {
  readonly #names: NameReader;
  readonly #value: ByteWriter = new ByteWriter(4096);
  readonly #placement: ByteWriter = new ByteWriter(4096);
  readonly #reply: ByteWriter = new ByteWriter(64 * 1024);

  constructor(files: FileTreeReader, keys: DomainKeys, session: SessionIndex) {
    this.#names = new NameReader(files, keys, session, new ContentReader(files, keys, session));
  }

  /**
   * Reply: per item u8 status, u8 flags, varint new bytes, varint bytes read, then blob value and blob placement when stored,
   * else text errno.
   */
  run(job: Uint8Array, target: ChunkTarget): Uint8Array {
    const r = new ByteReader(job, 'lane job');
    const kind = r.u8();
    invariant(kind === laneJobKind.read || kind === laneJobKind.readForWatch, 'a read job');
    this.#names.findsWriters = kind === laneJobKind.readForWatch;
    const reply = this.#reply;
    reply.reset();
    for (let count = r.varint(); count > 0; count--) {
      const directory = r.varint() as Descriptor;
      const nameBytes = r.varint();
      const name = { names: job, start: r.position };
      r.raw(nameBytes + 1);
      const stat = r.raw(statBytes);
      const hints = readHints(r);
      const nodeHints = readHints(r);
      this.#value.reset();
      this.#placement.reset();
      const read = this.#names.read(directory, name, stat, hints, nodeHints, target, this.#value, this.#placement);
      reply.u8(read.status);
      reply.u8(read.flags);
      reply.varint(read.newBytes);
      reply.varint(read.bytes);
      if (read.status === readStatus.stored) {
        reply.blob(this.#value.view());
        reply.blob(this.#placement.view());
      } else {
        reply.text(read.errno);
      }
    }
    r.end();
    return reply.take();
  }
}

/** The pipeline of a lane with packs of its own. */
export function createCaptureLane(
  ports: CaptureLanePorts,
  settings: CaptureLaneSettings,
  emit: EmitPackPart,
): { run(job: LaneJob): LaneReply } {
  const session = new SessionIndex({ memory: settings.sessionMemory });
  const runner = new ReadJobRunner(ports.files, settings.keys, session);
  const packs = new PackSequence(
    settings.packs,
    ports.compressor,
    emit,
    settings.slot,
    settings.firstPack,
    settings.packStep,
  );
  return {
    run(job: LaneJob): LaneReply {
      if (job.bytes[0] !== laneJobKind.finish) return { bytes: runner.run(job.bytes, packs) };
      const r = new ByteReader(job.bytes, 'lane job');
      invariant(r.u8() === laneJobKind.finish, 'a known lane job');
      const finished: FinishedLane = { packs: packs.finish(r.varint()), references: packs.references.list() };
      return { bytes: utf8Bytes(JSON.stringify(finished)) };
    },
  };
}
