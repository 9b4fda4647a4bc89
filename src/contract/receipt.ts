/**
 * The restore receipt: what a pod's volumes began with, from where, whether that was proven, how long it took, and which policy was
 * applied and why. The init container writes it to the state directory, its log, the store and its termination message; agent,
 * dashboard and drills read it. It names no file.
 */
import { asObject, asOneOf, asText } from './plain-json.ts';
import { refuseNewer, receiptFile } from './state-directory.ts';

export const receiptVersion = 1;

export interface RestoreReceipt {
  readonly version: typeof receiptVersion;
  /**
   * restored: from a checkpoint. empty: with nothing, as a policy said. kept: with what stood there. waiting: it is not over; see `waitsFor`.
   * failed: the container has ended with `error`, and nothing starts.
   */
  readonly outcome: 'restored' | 'empty' | 'kept' | 'waiting' | 'failed';
  readonly podUid: string;
  readonly podName: string;
  readonly lineage: string;
  /** Address of the store. */
  readonly store: string;
  /** ISO 8601, by the clock of the node. */
  readonly startedAt: string;
  readonly endedAt: string;
  readonly seconds: number;
  /** The checkpoint; null when none was restored. */
  readonly from: ReceiptCheckpoint | null;
  /** Slot of the pod's CLAIM; null when it has none. */
  readonly epoch: number | null;
  /** What was waited for before the restore; null when there was nobody to wait for. */
  readonly handoff: ReceiptHandoff | null;
  /** The older checkpoint that was asked for; null where none was. */
  readonly restoreAt: ReceiptRestoreAt | null;
  readonly policy: ReceiptPolicy;
  /** Every volume that was restored whole is proven equal to the checkpoint. */
  readonly verified: boolean;
  /** How often a newer checkpoint appeared on the way, and its difference was applied. */
  readonly moved: number;
  /** The first checkpoint of the agent must not become the default restore point by itself. */
  readonly suspect: boolean;
  readonly volumes: Readonly<Record<string, ReceiptVolume>>;
  readonly waitsFor: string | null;
  readonly error: ReceiptError | null;
  readonly warnings: readonly string[];
}

export interface ReceiptCheckpoint {
  readonly lineage: string;
  readonly slot: number;
  /** Record id, 64 hexadecimal digits. */
  readonly id: string;
  /** Digest of the record, 64 hexadecimal digits. */
  readonly digest: string;
  /** Root of the set, 64 hexadecimal digits. */
  readonly root: string;
  /** When it was made, ISO 8601. */
  readonly time: string;
  /** How old it was when this began. */
  readonly ageSeconds: number;
  readonly consistency: string;
}

export interface ReceiptHandoff {
  /** Name or UID of the pod whose final checkpoint was waited for. */
  readonly predecessor: string;
  readonly seconds: number;
  /** gone: it is known to be gone, so there was nothing to wait for. timeout: its newest checkpoint was taken as it stood. */
  readonly outcome: 'sealed' | 'gone' | 'timeout';
}

export interface ReceiptRestoreAt {
  readonly value: string;
  /**
   * restored: it was gone back to. honoured-before: another pod has done it, and stored a checkpoint since, from which this one went on.
   * not-applied: there was nothing to go back from, or nothing was restored at all.
   */
  readonly outcome: 'restored' | 'honoured-before' | 'not-applied';
}

export interface ReceiptPolicy {
  /** How the search for data ended. */
  readonly answer: 'data' | 'live' | 'first-boot' | 'missing' | 'unreachable';
  /** As it was given: `empty`, `block:10m`, `older:1h`; null when none was needed. */
  readonly applied: string | null;
  readonly why: string;
}

export interface ReceiptVolume {
  readonly path: string;
  readonly outcome: 'restored' | 'empty' | 'kept';
  /** Root of its tree in the checkpoint. */
  readonly root: string | null;
  readonly verified: boolean;
  readonly files: number;
  readonly bytes: number;
  /** What this run wrote of it. */
  readonly newBytes: number;
  /** Parts of metadata that the target did not keep, by reason. */
  readonly degraded: Readonly<Record<string, number>>;
}

export interface ReceiptError {
  readonly code: string;
  readonly exit: number;
  readonly message: string;
  readonly remedy: string;
}

export function printReceipt(receipt: RestoreReceipt): string {
  return `${JSON.stringify(receipt)}\n`;
}

/** Undefined when it is none. E_FORMAT_NEWER of a newer Holdfast. Fields that only people read are taken as they are. */
export function parseReceipt(text: string): RestoreReceipt | undefined {
  let plain: Readonly<Record<string, unknown>>;
  try {
    plain = asObject(JSON.parse(text));
    asOneOf(plain['outcome'], ['restored', 'empty', 'kept', 'waiting', 'failed']);
    for (const name of ['podUid', 'lineage', 'startedAt', 'endedAt']) asText(plain[name]);
    asObject(plain['policy']);
    asObject(plain['volumes']);
  } catch {
    return undefined;
  }
  try {
    refuseNewer(plain['version'], receiptVersion, receiptFile);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
  return plain as unknown as RestoreReceipt;
}
