/**
 * Names of the objects in a store, made and read in one place. docs/format.md, "Object keys".
 *
 * A lineage or domain is one part of a key. Slots are inverted and of fixed width, so that an ascending LIST gives the
 * newest first. Every part is at most 255 bytes of letters, digits, `.`, `_` and `-`: what any file system and any S3 takes.
 */
import { hash } from 'node:crypto';
import { type LineageName, type Slot, slotMax, toLineageName, toSlot } from '../model/ids.ts';
import { invariant } from '../model/errors.ts';

export const repositoryObjectKey = 'v1/repo';
/** Where a store was tried out; see lineage/prove-create-only.ts. */
export const probesPrefix = 'v1/probe/';
export const lineagesPrefix = 'v1/l/';

/** Longest name written out in full; a longer one is cut and ends with its hash. */
const namePartMax = 160;
const slotDigits = 10;

/**
 * A slash-separated name as one part: `_` as `__`, `/` as `_.`. When that is longer than 160 characters: its first 160, then
 * `_-` and the SHA-256 of the name.
 */
export function toKeyPart(name: string): string {
  const part = name.replaceAll('_', '__').replaceAll('/', '_.');
  return part.length <= namePartMax ? part : `${part.slice(0, namePartMax)}_-${sha256Hex(name)}`;
}

/** The name of a part; undefined when it was cut (its records name it) or is not a name. */
export function fromKeyPart(part: string): LineageName | undefined {
  let name = '';
  for (let i = 0; i < part.length; i++) {
    if (part[i] !== '_') name += part[i];
    else if (part[i + 1] === '_') name += part[++i];
    else if (part[++i] === '.') name += '/';
    else return undefined;
  }
  try {
    return toKeyPart(toLineageName(name)) === part ? (name as LineageName) : undefined;
  } catch {
    return undefined;
  }
}

function sha256Hex(text: string): string {
  return hash('sha256', text, 'hex');
}

/** `v1/l/<hh>/<lineage>/`; hh spreads lineages over 256 prefixes. */
export function lineagePrefix(lineage: LineageName): string {
  return `${lineagesPrefix}${sha256Hex(lineage).slice(0, 2)}/${toKeyPart(lineage)}/`;
}

/** Which lineage an object belongs to: the prefix of all its objects, and its name where the key tells it. */
export function parseLineageKey(key: string): { readonly prefix: string; readonly lineage?: LineageName } | undefined {
  const match = /^v1\/l\/([0-9a-f]{2})\/([^/]+)\//.exec(key);
  if (!match) return undefined;
  const prefix = match[0];
  const lineage = fromKeyPart(match[2] as string);
  if (lineage === undefined) return { prefix };
  return lineagePrefix(lineage) === prefix ? { prefix, lineage } : undefined;
}

export function invertedSlot(slot: Slot): string {
  return (slotMax - slot).toString(16).padStart(slotDigits, '0');
}

function parseInvertedSlot(text: string): Slot | undefined {
  if (!/^[0-9a-f]{10}$/.test(text)) return undefined;
  const slot = slotMax - Number.parseInt(text, 16);
  return slot >= 1 ? toSlot(slot) : undefined;
}

export function logPrefix(lineage: LineageName): string {
  return `${lineagePrefix(lineage)}log/`;
}

export function logKey(lineage: LineageName, slot: Slot): string {
  invariant(slot >= 1, 'records have slots from 1');
  return logPrefix(lineage) + invertedSlot(slot);
}

/** Slot of a key below that lineage's `log/`; undefined for anything else. */
export function parseLogKey(lineage: LineageName, key: string): Slot | undefined {
  const prefix = logPrefix(lineage);
  return key.startsWith(prefix) ? parseInvertedSlot(key.slice(prefix.length)) : undefined;
}

export function packPrefix(lineage: LineageName): string {
  return `${lineagePrefix(lineage)}pk/`;
}

export interface PackNameParts {
  /** The only log slot whose record may introduce the pack. */
  readonly slot: number;
  readonly epoch: number;
  /** Number among the packs of its slot. */
  readonly pack: number;
  /** First 4 bytes of the pack's salt, 8 hexadecimal digits. */
  readonly salt8: string;
}

export function toPackName(parts: PackNameParts): string {
  return `${parts.slot}-${parts.epoch}-${parts.pack}-${parts.salt8}`;
}

/** Undefined unless `toPackName` makes exactly this text. */
export function parsePackName(name: string): PackNameParts | undefined {
  const match = /^([1-9]\d{0,12})-([1-9]\d{0,12})-(0|[1-9]\d{0,9})-([0-9a-f]{8})$/.exec(name);
  if (!match) return undefined;
  const [slot, epoch, pack] = [Number(match[1]), Number(match[2]), Number(match[3])];
  if (slot > slotMax || epoch > slot || pack > 0xffff_ffff) return undefined;
  return { slot, epoch, pack, salt8: match[4] as string };
}

export function packKey(lineage: LineageName, name: string): string {
  invariant(parsePackName(name) !== undefined, 'a pack has a well-formed name');
  return packPrefix(lineage) + name;
}

export function parsePackKey(lineage: LineageName, key: string): PackNameParts | undefined {
  const prefix = packPrefix(lineage);
  return key.startsWith(prefix) ? parsePackName(key.slice(prefix.length)) : undefined;
}

export function domainKeyPrefix(domain: string): string {
  return `v1/key/${toKeyPart(domain)}/`;
}

/** Wrapped keys of one generation, 1 and up. */
export function domainKeyKey(domain: string, generation: number): string {
  return domainKeyPrefix(domain) + String(generation);
}

export function parseDomainKeyKey(domain: string, key: string): number | undefined {
  const prefix = domainKeyPrefix(domain);
  if (!key.startsWith(prefix)) return undefined;
  const digits = key.slice(prefix.length);
  return /^[1-9]\d{0,9}$/.test(digits) && Number(digits) <= 0xffff_ffff ? Number(digits) : undefined;
}

/** Decisions of garbage collection, numbered and inverted like the log. */
export function decisionPrefix(lineage: LineageName): string {
  return `${lineagePrefix(lineage)}gc/`;
}

export function decisionKey(lineage: LineageName, number: Slot): string {
  return decisionPrefix(lineage) + invertedSlot(number);
}

export function parseDecisionKey(lineage: LineageName, key: string): Slot | undefined {
  const prefix = decisionPrefix(lineage);
  return key.startsWith(prefix) ? parseInvertedSlot(key.slice(prefix.length)) : undefined;
}

/** Receipts of restores. */
export function receiptPrefix(lineage: LineageName): string {
  return `${lineagePrefix(lineage)}receipt/`;
}

/** Below `receipt/`, by the slot of the pod's CLAIM (0: it has none), newest first. `id`: 64 hexadecimal digits, random. */
export function receiptKey(lineage: LineageName, slot: Slot, id: string): string {
  invariant(/^[0-9a-f]{64}$/.test(id), 'a receipt has a random id of 32 bytes');
  return `${receiptPrefix(lineage)}${invertedSlot(slot)}-${id}`;
}

/** Releases of suspect checkpoints. */
export function ackPrefix(lineage: LineageName): string {
  return `${lineagePrefix(lineage)}ack/`;
}

/** Below `ack/`, by slot. `id`: 32 hexadecimal digits, random, so that junk at a name that can be guessed stops nobody. */
export function ackKey(lineage: LineageName, slot: Slot, id: string): string {
  invariant(/^[0-9a-f]{32}$/.test(id), 'a release has a random id of 16 bytes');
  return `${ackPrefix(lineage)}${slot}-${id}`;
}

export function pinPrefix(lineage: LineageName): string {
  return `v1/pin/${toKeyPart(lineage)}/`;
}

/** `id`: 32 hexadecimal digits, random. */
export function pinKey(lineage: LineageName, slot: Slot, id: string): string {
  invariant(/^[0-9a-f]{32}$/.test(id), 'a pin has a random id of 16 bytes');
  return `${pinPrefix(lineage)}${slot}/${id}`;
}

export function parsePinKey(
  lineage: LineageName,
  key: string,
): { readonly slot: Slot; readonly id: string } | undefined {
  const prefix = pinPrefix(lineage);
  const match = key.startsWith(prefix) ? /^([1-9]\d{0,12})\/([0-9a-f]{32})$/.exec(key.slice(prefix.length)) : null;
  if (!match || Number(match[1]) > slotMax) return undefined;
  return { slot: toSlot(Number(match[1])), id: match[2] as string };
}
