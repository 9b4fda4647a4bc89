/**
 * The private directory of a pod (`--state-dir`), which its init container hands to its agent. It lies on a disk, apart from
 * the volumes, and survives every reboot that they survive.
 *
 *   rehydrate.json   the marker: what was decided of each volume, and how far it has come
 *   receipt.json     the newest restore receipt (receipt.ts)
 *   holders/         identity and claims; the holder is the pod's UID, so the agent goes on under the claim that it finds
 *   caches/          scan caches; a restore prepares that of the first capture
 *   restores/        how far the restore of each directory has come
 *
 * The marker is read before anything is asked of a store: that a volume is in use must be known without one.
 */
import { HoldfastError } from '../engine/model/errors.ts';
import {
  toLineageName,
  toSlot,
  toVolumeName,
  type LineageName,
  type Slot,
  type VolumeName,
} from '../engine/model/ids.ts';
import { asFlag, asObject, asOneOf, asText, asWhole } from './plain-json.ts';

export const markerFile = 'rehydrate.json';
export const receiptFile = 'receipt.json';

/** What a volume begins with. */
export type VolumeOrigin =
  | { readonly kind: 'checkpoint'; readonly slot: Slot /** Record id, 64 hexadecimal digits. */; readonly id: string }
  /** Nothing: a first boot, or a policy that said to begin empty all the same. */
  | { readonly kind: 'empty'; readonly why: 'first-boot' | 'missing' | 'unreachable' }
  /** What stood there: nothing was restored over it. */
  | { readonly kind: 'kept' };

export interface MarkedVolume {
  /** started: something of it may have been written, and no application has seen it. done: an application may have. */
  readonly phase: 'started' | 'done';
  /** Its data does not survive a reboot. */
  readonly memory: boolean;
  /** The boot in which it reached its phase; empty where that is not known. */
  readonly bootId: string;
  readonly from: VolumeOrigin;
}

export interface RehydrateMarker {
  readonly podUid: string;
  /** The one that was chosen: of numbered replica slots, with the number. */
  readonly lineage: LineageName;
  /** Whether the pod may write the lineage, or only began from it. */
  readonly writes: boolean;
  /** The first checkpoint after it may hold less than was there: it must not become the default restore point by itself. */
  readonly suspect: boolean;
  /** Said once its claim is the newest of the log and nothing is left to restore. */
  readonly phase: 'started' | 'done';
  readonly volumes: ReadonlyMap<VolumeName, MarkedVolume>;
}

const version = 1;

export function printMarker(marker: RehydrateMarker): string {
  const { volumes, ...rest } = marker;
  return `${JSON.stringify({ version, ...rest, volumes: Object.fromEntries(volumes) }, undefined, 2)}\n`;
}

/**
 * Undefined when it is not what `printMarker` wrote: torn or made by something else, which counts as if there were none.
 * E_FORMAT_NEWER when a newer Holdfast wrote it: what that has decided must not be forgotten.
 */
export function parseMarker(text: string): RehydrateMarker | undefined {
  try {
    const plain = asObject(JSON.parse(text));
    refuseNewer(plain['version'], version, markerFile);
    const volumes = Object.entries(asObject(plain['volumes'])).map(
      ([name, volume]) => [toVolumeName(name), markedVolume(asObject(volume))] as const,
    );
    return {
      podUid: asText(plain['podUid']),
      lineage: toLineageName(asText(plain['lineage'])),
      writes: asFlag(plain['writes']),
      suspect: asFlag(plain['suspect']),
      phase: asOneOf(plain['phase'], ['started', 'done']),
      volumes: new Map(volumes),
    };
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'E_FORMAT_NEWER') throw error;
    return undefined;
  }
}

function markedVolume(plain: Readonly<Record<string, unknown>>): MarkedVolume {
  return {
    phase: asOneOf(plain['phase'], ['started', 'done']),
    memory: asFlag(plain['memory']),
    bootId: asText(plain['bootId']),
    from: originOf(asObject(plain['from'])),
  };
}

function originOf(plain: Readonly<Record<string, unknown>>): VolumeOrigin {
  const kind = asOneOf(plain['kind'], ['checkpoint', 'empty', 'kept']);
  if (kind === 'checkpoint') return { kind, slot: toSlot(asWhole(plain['slot'])), id: asText(plain['id']) };
  if (kind === 'empty') return { kind, why: asOneOf(plain['why'], ['first-boot', 'missing', 'unreachable']) };
  return { kind };
}

export function refuseNewer(found: unknown, known: number, what: string): void {
  if (Number.isSafeInteger(found) && (found as number) > known) {
    throw new HoldfastError('E_FORMAT_NEWER', `${what} was written by a newer Holdfast (version ${String(found)})`);
  }
  if (found !== known) throw new TypeError(`version ${String(found)}`);
}
