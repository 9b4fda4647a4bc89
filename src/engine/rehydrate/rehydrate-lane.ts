/**
 * A restore lane: decrypt → decompress → prove → write, all synchronous, for one job of files at a time. It runs in a worker
 * thread, or in the calling thread for small restores.
 *
 * A file is made without a name and gets its name when it is whole, metadata included, so a kill leaves no half file. Where
 * that is not possible, and where something is replaced, it is made under a name that only this restore can have chosen.
 */
import type { DataKey, DomainKeys } from '../format/keys.ts';
import type { FrameCodec } from '../format/pack.ts';
import { ByteReader, utf8Bytes } from '../model/bytes.ts';
import type { Hole, Xattr } from '../model/entry.ts';
import { HoldfastError } from '../model/errors.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter, type NameAt } from '../ports/file-tree.ts';
import type { LaneJob, LaneReply } from '../ports/lanes.ts';
import { applyToDescriptor, type OnDegraded, type PlainXattr } from './apply-meta.ts';
import { ContentComparison, sameXattrs } from './compare-content.ts';
import { DamagedSegment, JobSegments } from './job-segments.ts';
import {
  isChunk,
  itemFlag,
  itemKind,
  type JobHead,
  type JobMeta,
  jobKind,
  noteKind,
  ReplyWriter,
  readHoles,
  readJobHead,
  readMetaInto,
} from './restore-job.ts';
import { ContentWriter } from './write-content.ts';

/** Structured-cloneable: what every lane of a restore is started with. */
export interface RehydrateLaneSettings {
  readonly repository: string;
  readonly domain: string;
  readonly keys: DomainKeys;
  readonly dataKeys: readonly DataKey[];
}

export interface RehydrateLanePorts {
  readonly files: FileTreeWriter;
  readonly compressor: FrameCodec;
}

/** Name of a temporary file; the coordinator gives each job numbers of its own. */
export function tempName(prefix: Uint8Array, number: number): NameAt {
  const digits = utf8Bytes(String(number));
  const names = new Uint8Array(prefix.length + digits.length + 1);
  names.set(prefix);
  names.set(digits, prefix.length);
  return { names, start: 0 };
}

/** The pipeline of a lane. */
export function createRehydrateLane(
  ports: RehydrateLanePorts,
  settings: RehydrateLaneSettings,
): { run(job: LaneJob): LaneReply } {
  const runner = new RestoreJobRunner(ports, settings);
  return { run: (job) => ({ bytes: runner.run(job.bytes, job.buffers ?? []) }) };
}

/** The target failed: what follows would fail too, or make it worse. */
const stop = Symbol('stop');

export class RestoreJobRunner {
  readonly #files: FileTreeWriter;
  readonly #settings: RehydrateLaneSettings;
  readonly #segments: JobSegments;
  readonly #content: ContentWriter;
  readonly #reply: ReplyWriter = new ReplyWriter();
  readonly #meta: JobMeta = { mode: 0, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: [] };
  #item = 0;
  readonly #onDegraded: OnDegraded = (part, errno) => {
    this.#reply.note(this.#item, noteKind.degraded, 0, `${part} ${errno}`);
  };

  constructor(ports: RehydrateLanePorts, settings: RehydrateLaneSettings) {
    this.#files = ports.files;
    this.#settings = settings;
    this.#segments = new JobSegments(settings.keys, settings.dataKeys, ports.compressor);
    this.#content = new ContentWriter(ports.files, this.#segments);
  }

  /** An empty buffer stands for ciphertext that could not be had. The buffers are used up. */
  run(job: Uint8Array, buffers: readonly Uint8Array[]): Uint8Array {
    const r = new ByteReader(job, 'lane job');
    const head = readJobHead(r, this.#settings);
    const reply = this.#reply;
    reply.reset();
    this.#segments.begin(
      head.segments,
      buffers.map((buffer) => (buffer.length === 0 ? undefined : buffer)),
    );
    try {
      if (head.kind === jobKind.open) this.#openAll();
      else this.#runItems(r, head);
    } finally {
      this.#segments.end();
      for (const buffer of buffers) free(buffer);
    }
    return reply.take();
  }

  /** Proves that every segment of the job opens. */
  #openAll(): void {
    for (let number = 0; number < this.#segments.count; number++) {
      try {
        this.#reply.bytes += this.#segments.plain(number).length;
      } catch (error) {
        if (!(error instanceof DamagedSegment)) throw error;
        this.#reply.note(number, noteKind.damaged, number, error.message);
      }
    }
  }

  #runItems(r: ByteReader, head: JobHead): void {
    for (this.#item = 0; this.#item < head.items; this.#item++) {
      if (this.#runItem(r.raw(r.u32()), head) === stop) return;
    }
  }

  #runItem(item: Uint8Array, head: JobHead): typeof stop | undefined {
    const r = new ByteReader(item, 'lane job');
    try {
      if (head.kind === jobKind.sync) {
        this.#files.syncFileSystem(r.varint() as Descriptor);
      } else {
        const kind = r.u8();
        const flags = r.u8();
        if (kind === itemKind.part) this.#writePart(r, head);
        else this.#runFile(item, r, head, flags);
      }
      this.#reply.done++;
      return undefined;
    } catch (error) {
      if (error instanceof DamagedSegment) {
        this.#reply.note(this.#item, noteKind.damaged, error.segment, error.message);
        return undefined;
      }
      if (!(error instanceof FileTreeError)) throw error;
      this.#reply.note(this.#item, noteKind.failed, 0, `${error.errno} ${error.operation}`);
      return stop;
    }
  }

  #writePart(r: ByteReader, head: JobHead): void {
    const descriptor = r.varint() as Descriptor;
    const file = head.kind === jobKind.prove ? undefined : descriptor;
    const position = r.varint();
    const bytes = r.varint();
    const holes = readHoles(r);
    this.#content.write(r, file, position, bytes, holes);
    this.#reply.bytes += this.#content.writtenBytes;
  }

  #runFile(item: Uint8Array, r: ByteReader, head: JobHead, flags: number): void {
    const directory = r.varint() as Descriptor;
    const nameBytes = r.varint();
    const name: NameAt = { names: item, start: r.skip(nameBytes + 1) };
    readMetaInto(r, this.#meta);
    const size = r.varint();
    const holes = readHoles(r);
    if (head.kind === jobKind.prove) {
      this.#xattrs();
      this.#content.write(r, undefined, 0, size, holes);
      this.#reply.bytes += this.#content.writtenBytes;
    } else if (head.kind === jobKind.compare) {
      if (!this.#isThere(r, directory, name, size)) this.#reply.note(this.#item, noteKind.differs, 0, '');
    } else {
      this.#writeFile(r, head, flags, directory, name, size, holes);
    }
  }

  #writeFile(
    r: ByteReader,
    head: JobHead,
    flags: number,
    directory: Descriptor,
    name: NameAt,
    size: number,
    holes: readonly Hole[],
  ): void {
    const files = this.#files;
    const replace = (flags & itemFlag.replace) !== 0;
    let file = replace ? undefined : files.createNameless(directory);
    let temp: NameAt | undefined;
    if (file === undefined) {
      temp = tempName(head.tempPrefix, head.firstTemp + this.#item);
      file = files.createExclusive(directory, temp);
    }
    let named = false;
    try {
      this.#content.write(r, file, 0, size, holes);
      if (this.#content.writtenEnd < size) files.truncate(file, size);
      applyToDescriptor(files, file, this.#meta, this.#xattrs(), (flags & itemFlag.owner) !== 0, this.#onDegraded);
      if (temp === undefined) files.linkNameless(file, directory, name);
      else files.rename(directory, temp, name, replace);
      named = true;
      this.#reply.bytes += this.#content.writtenBytes;
    } finally {
      files.close(file);
      if (!named && temp !== undefined) removeQuietly(files, directory, temp);
    }
  }

  #isThere(r: ByteReader, directory: Descriptor, name: NameAt, size: number): boolean {
    const { keys } = this.#settings;
    const comparison = ContentComparison.open(this.#files, keys, directory, name, size);
    if (comparison === undefined) return false;
    try {
      const wanted = this.#xattrs().map(
        ({ name: xattr, value }): Xattr => ({ name: xattr, value: { kind: 'inline', bytes: value } }),
      );
      if (!sameXattrs(comparison.xattrs(), wanted, keys)) return false;
      for (let left = r.varint(); left > 0; left--) {
        const chunk = r.u8() === isChunk;
        const bytes = r.varint();
        const id = chunk ? r.raw(32) : undefined;
        if (chunk) {
          r.varint();
          r.varint();
        }
        if (!comparison.matches(bytes, id)) return false;
      }
      return comparison.atEnd();
    } finally {
      comparison.close();
    }
  }

  #xattrs(): readonly PlainXattr[] {
    const { xattrs } = this.#meta;
    if (xattrs.length === 0) return noXattrs;
    return xattrs.map((xattr): PlainXattr => {
      if (xattr.chunk === undefined) return { name: xattr.name, value: xattr.bytes };
      const { offset, bytes } = xattr.chunk;
      return { name: xattr.name, value: this.#segments.proven(xattr.chunk).slice(offset, offset + bytes) };
    });
  }
}

const noXattrs: readonly PlainXattr[] = [];

/** Gives ciphertext back at once: a collector that sees only the small object that holds it would wait too long. */
function free({ buffer, length }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length && !buffer.detached) buffer.transfer(0);
}

/** Removes a temporary file after a failure that is reported already. */
export function removeQuietly(files: FileTreeWriter, directory: Descriptor, name: NameAt): void {
  try {
    files.removeFile(directory, name);
  } catch (error) {
    if (!(error instanceof FileTreeError) && !(error instanceof HoldfastError)) throw error;
  }
}
