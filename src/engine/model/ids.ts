/**
 * One door into each special type. A value of these types was checked once, here.
 */
import { fromHex, toHex } from './bytes.ts';
import { HoldfastError } from './errors.ts';

declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

/** Number of a place in a lineage's log, 1 and up; 0 means "none". */
export type Slot = Branded<number, 'Slot'>;
/** Slot of the CLAIM under which a record was written. */
export type Epoch = Branded<number, 'Epoch'>;
/** 32 bytes: HMAC-SHA-256 of a chunk's content under the domain's content-id key. */
export type ContentId = Branded<Uint8Array, 'ContentId'>;
/** 32 bytes: HMAC-SHA-256 of the logical part of a tree node. */
export type NodeId = Branded<Uint8Array, 'NodeId'>;
/** 32 random bytes, new for each attempt to make a record. */
export type RecordId = Branded<Uint8Array, 'RecordId'>;
/** Slash-separated name of a pod identity, such as `team/app/0`. */
export type LineageName = Branded<string, 'LineageName'>;
/** Name of a volume inside a set, such as `data`. */
export type VolumeName = Branded<string, 'VolumeName'>;
/** Identity of a holder: the pod's UID, or a random id outside a pod. */
export type HolderId = Branded<string, 'HolderId'>;

export const slotMax: number = 2 ** 40 - 1;

export function toSlot(value: number): Slot {
  if (!Number.isSafeInteger(value) || value < 0 || value > slotMax) {
    throw new HoldfastError('E_DAMAGED', `slot ${value} is out of range`);
  }
  return value as Slot;
}

export function nextSlot(slot: Slot): Slot {
  return toSlot(slot + 1);
}

export function toEpoch(value: number): Epoch {
  return toSlot(value) as number as Epoch;
}

function exactly32(bytes: Uint8Array, what: string): Uint8Array {
  if (bytes.length !== 32) throw new HoldfastError('E_DAMAGED', `${what} has ${bytes.length} bytes, not 32`);
  return bytes;
}

export function toContentId(bytes: Uint8Array): ContentId {
  return exactly32(bytes, 'content id') as ContentId;
}

export function toNodeId(bytes: Uint8Array): NodeId {
  return exactly32(bytes, 'node id') as NodeId;
}

export function toRecordId(bytes: Uint8Array): RecordId {
  return exactly32(bytes, 'record id') as RecordId;
}

export function parseRecordId(text: string): RecordId | undefined {
  const bytes = fromHex(text);
  return bytes?.length === 32 ? (bytes as RecordId) : undefined;
}

export function recordIdText(id: RecordId): string {
  return toHex(id);
}

const lineagePart = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/;

/** 1 to 8 parts of letters, digits, `.`, `_`, `-`, joined by `/`; at most 512 characters. */
export function toLineageName(text: string): LineageName {
  const parts = text.split('/');
  if (text.length > 512 || parts.length > 8 || !parts.every((part) => lineagePart.test(part))) {
    throw new HoldfastError('E_USAGE', `lineage ${JSON.stringify(text.slice(0, 100))} is not a valid name`, {
      remedy: 'Use 1 to 8 parts of letters, digits, dots, dashes and underscores, joined by slashes: team/app/0.',
    });
  }
  return text as LineageName;
}

const volumePart = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** A Kubernetes volume name: a DNS label of at most 63 characters. */
export function toVolumeName(text: string): VolumeName {
  if (!volumePart.test(text)) {
    throw new HoldfastError('E_USAGE', `volume ${JSON.stringify(text.slice(0, 100))} is not a valid name`, {
      remedy: 'Use lower-case letters, digits and dashes, at most 63, as in Kubernetes: data, logs, cache-1.',
    });
  }
  return text as VolumeName;
}

const holderPart = /^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/;

export function toHolderId(text: string): HolderId {
  if (!holderPart.test(text)) throw new HoldfastError('E_DAMAGED', 'holder id is not valid');
  return text as HolderId;
}
