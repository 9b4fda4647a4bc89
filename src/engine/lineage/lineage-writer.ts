/**
 * What a capture asks of the lineage it writes to. The slot is known before the first byte of a pack is sealed, because
 * packs carry the number of the only record that may introduce them; when that slot turns out to be taken by something
 * harmless, `commit` throws `Rebased` and the capture begins again under the next slot on the new base.
 */
import type { PackEntry, PackReference } from '../format/pack-entry.ts';
import type { PackTable } from '../format/pack-table.ts';
import type { LogRecord } from '../format/record.ts';
import type { Consistency, VolumeCheckpoint } from '../model/checkpoint.ts';
import type { Epoch, RecordId, Slot } from '../model/ids.ts';

export interface BaseCheckpoint {
  readonly record: LogRecord;
  readonly volumes: readonly VolumeCheckpoint[];
}

export interface GoodCheckpoint extends BaseCheckpoint {
  /** What it lists, ascending. */
  readonly packs: readonly PackEntry[];
}

/** What deduplication may refer to: the newest CHECKPOINT and the PARTIALs above it. */
export interface CommitBase {
  /** The newest of them; caches are bound to its `header.id`. */
  readonly record: LogRecord;
  /** Its volumes; of a PARTIAL they hold what was captured so far. */
  readonly volumes: readonly VolumeCheckpoint[];
  /** The newest CHECKPOINT, when `record` is a PARTIAL above one, with its volumes; else the same as `record`, or undefined. */
  readonly checkpoint: BaseCheckpoint | undefined;
  /** The newest CHECKPOINT that is not suspect, or was released: what says whether the next one has lost too much. */
  readonly good: GoodCheckpoint | undefined;
  /** All packs that these records list, ascending by (origin, slot, pack). */
  readonly packs: readonly PackEntry[];
  /** The pack table of `record`, if it has one. */
  readonly table: PackTable | undefined;
}

/** A finished pack, as its writer sums it up. */
export interface FinishedPack {
  /** `<slot>-<epoch>-<pack>-<salt8>`. */
  readonly name: string;
  readonly slot: number;
  readonly epoch: number;
  readonly pack: number;
  readonly bytes: number;
  readonly footerBytes: number;
  readonly dataPlainBytes: number;
  readonly metaPlainBytes: number;
}

export interface CommitRequest {
  readonly kind: 'CHECKPOINT' | 'PARTIAL';
  /** Sorted or not; each name once. */
  readonly volumes: readonly VolumeCheckpoint[];
  readonly consistency: Consistency;
  /** True keeps it from becoming the default restore point. */
  readonly suspect: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  /** Plain bytes that this capture added. */
  readonly newBytes: number;
  /** Packs of this slot that are durable in the store already. */
  readonly uploaded: readonly FinishedPack[];
  /** Packs of this slot that travel inside the record. */
  readonly inlined: readonly { readonly summary: FinishedPack; readonly bytes: Uint8Array }[];
  /**
   * Packs of the base to go on listing; default all. A shorter list is only right after a pass over everything that can be
   * reached.
   */
  readonly keep?: readonly PackEntry[];
  /** Bytes in use of packs in the list, where they were counted; the others keep what they had. */
  readonly inUse?: (pack: PackEntry) => number;
  /** Every pack that a place written by this capture names (each once or more); roots are checked without being named. */
  readonly referenced: Iterable<PackReference>;
  readonly signal?: AbortSignal;
}

export interface Committed {
  readonly slot: Slot;
  readonly id: RecordId;
  /** What the next record names as its predecessor; also the digest of an anchor. */
  readonly digest: Uint8Array;
  /** Root of the set. */
  readonly root: Uint8Array;
  /** Size of the record as stored. */
  readonly bytes: number;
}

export interface SealOptions {
  readonly signal?: AbortSignal;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface LineageWriter {
  readonly epoch: Epoch;
  /** Slot of the next record, and so of the packs to build for it. */
  readonly slot: Slot;
  readonly base: CommitBase | undefined;
  /** Newest record that this writer knows of: its own last one, the CLAIM at first, or what it adopted. */
  readonly newest: { readonly slot: Slot; readonly digest: Uint8Array };
  /** Whether the newest record is this epoch's SEAL: another holder may go on, until the next commit reopens the lineage. */
  readonly sealed: boolean;
  /** True until `restoreCompleted`: no CHECKPOINT may be written over volumes that are still being restored. */
  readonly restorePending: boolean;
  restoreCompleted(): void;
  /**
   * Makes the checkpoint exist. After an error that leaves the outcome open (E_STORE_UNREACHABLE, E_STORE_IO, E_ABORTED)
   * the next call settles it: either it succeeds, or it throws `Rebased` because the earlier one has landed.
   * Throws Rebased; HoldfastError with E_FENCED (for good), E_LIMIT when the record gets too large, E_STORE_*, E_STATE_DIR.
   */
  commit(request: CommitRequest): Promise<Committed>;
  /**
   * While the newest CHECKPOINT is suspect: looks whether it was released, and makes it `base.good` then. One LIST; nothing at all
   * otherwise. E_STORE_*, E_ABORTED.
   */
  lookForReleases(options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /**
   * Asks the store whether somebody else has taken the lineage: E_FENCED, for good. One LIST; for when what happens may have that
   * reason, since a collector takes away what only a superseded writer still needs. E_STORE_*, E_ABORTED.
   */
  confirm(options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
  /**
   * Says that the holder has finished, with labels such as what it could not save. A later commit reopens the lineage; a lineage that
   * is sealed already stays as it is. Throws as commit does.
   */
  seal(options?: SealOptions): Promise<Committed>;
}

/**
 * The slot was taken without anybody fencing this writer: by a record of its own epoch that a killed process had in flight
 * (`adopted`, now part of the writer's base), or by junk (undefined). Packs sealed for the old slot are worthless: capture
 * again for `slot`.
 */
export class Rebased extends Error {
  override readonly name = 'Rebased';
  readonly adopted: LogRecord | undefined;
  /** The next slot to build for. */
  readonly slot: Slot;

  constructor(adopted: LogRecord | undefined, slot: Slot) {
    super(adopted ? `adopted ${adopted.header.kind} ${adopted.header.slot}` : `slot ${slot - 1} holds junk`);
    this.adopted = adopted;
    this.slot = slot;
  }
}
