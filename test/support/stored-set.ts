/** Packs and records put into a store without a capture: what a test of reading starts from. */
import { listWrittenOut } from '../../src/engine/format/pack-table.ts';
import type { HostCompressor } from '../../src/edge/host/host-compressor.ts';
import {
  type DataKey,
  type DomainKeys,
  deriveDomainKeys,
  publicKeyOf,
  setRoot,
  toDataKey,
} from '../../src/engine/format/keys.ts';
import { logKey, packKey } from '../../src/engine/format/object-keys.ts';
import { type PackIdentity, type PackSummary, PackWriter } from '../../src/engine/format/pack.ts';
import { comparePacks, type PackEntry, toPackEntry } from '../../src/engine/format/pack-entry.ts';
import { encodeRecord, type LogRecord } from '../../src/engine/format/record.ts';
import { concatBytes } from '../../src/engine/model/bytes.ts';
import type { VolumeCheckpoint } from '../../src/engine/model/checkpoint.ts';
import {
  type LineageName,
  toEpoch,
  toHolderId,
  toLineageName,
  toRecordId,
  toSlot,
} from '../../src/engine/model/ids.ts';
import type { ObjectWriter } from '../../src/engine/ports/object-store.ts';

export const setKeys: DomainKeys = deriveDomainKeys(Uint8Array.from({ length: 32 }, (_, i) => 7 * i));
export const setDataKey: DataKey = toDataKey(1, new Uint8Array(32).fill(9), setKeys.plainTagKey);
export const setPublicKey: Uint8Array = publicKeyOf(setKeys.signingSeed);
export const setRepository = '00112233445566778899aabbccddeeff';
export const setDomain = 'team/app';
export const setLineage: LineageName = toLineageName('team/app/0');

export interface BuiltPack {
  readonly summary: PackSummary;
  readonly bytes: Uint8Array;
}

/** A pack of the test lineage; epoch 1. */
export function beginPack(
  compressor: HostCompressor,
  slot: number,
  pack: number,
  options: { readonly dataSegmentBytes?: number; readonly metaSegmentBytes?: number; readonly dataKey?: DataKey } = {},
): { readonly writer: PackWriter; finish(): BuiltPack } {
  const parts: Uint8Array[] = [];
  const identity: PackIdentity = {
    repository: setRepository,
    domain: setDomain,
    lineage: setLineage,
    slot: toSlot(slot),
    epoch: toEpoch(1),
    pack,
  };
  const writer = new PackWriter({
    identity,
    dataKey: options.dataKey ?? setDataKey,
    salt: Uint8Array.from({ length: 32 }, (_, i) => i ^ (slot * 16 + pack)),
    compressor,
    level: 1,
    dataSegmentBytes: options.dataSegmentBytes ?? 64 * 1024,
    metaSegmentBytes: options.metaSegmentBytes ?? 16 * 1024,
    emit: (bytes) => parts.push(bytes.slice()),
  });
  return {
    writer,
    finish: () => {
      const summary = writer.finish();
      return { summary, bytes: concatBytes(parts) };
    },
  };
}

export async function storePack(store: ObjectWriter, pack: BuiltPack): Promise<PackEntry> {
  await store.create(packKey(setLineage, pack.summary.name), pack.bytes);
  return toPackEntry(pack.summary, false);
}

/** Makes record `slot` a CHECKPOINT of the volumes, with the packs listed and those inlined in it. */
export async function storeCheckpoint(
  store: ObjectWriter,
  slot: number,
  content: {
    readonly volumes?: readonly VolumeCheckpoint[];
    readonly packs?: readonly PackEntry[];
    readonly inlined?: readonly BuiltPack[];
  },
): Promise<LogRecord> {
  const volumes = content.volumes ?? [];
  const inlined = (content.inlined ?? []).map((pack) => ({
    entry: toPackEntry(pack.summary, true),
    bytes: pack.bytes,
  }));
  let [files, entries, plainBytes] = [0, 0, 0];
  for (const { root } of volumes) {
    files += root.sums.files;
    entries += root.sums.entries;
    plainBytes += root.sums.bytes;
  }
  const encoded = encodeRecord(
    {
      repository: setRepository,
      domain: setDomain,
      lineage: setLineage,
      slot: toSlot(slot),
      kind: 'CHECKPOINT',
      id: toRecordId(new Uint8Array(32).fill(slot)),
      epoch: toEpoch(1),
      generation: setDataKey.generation,
      holder: toHolderId('holder'),
      holderName: 'test',
      previousClaim: toSlot(0),
      base: undefined,
      predecessor: { slot: toSlot(slot - 1), digest: new Uint8Array(32) },
      timeMs: 1_700_000_000_000,
      suspect: false,
      consistency: 'converged',
      labels: [],
      totals: { files, entries, bytes: plainBytes, newBytes: plainBytes, storedBytes: 0 },
      origins: [],
      packList: listWrittenOut([...(content.packs ?? []), ...inlined.map(({ entry }) => entry)].sort(comparePacks)),
    },
    {
      setRoot: setRoot(
        setKeys,
        volumes.map(({ name, root }) => ({ name, id: root.id })),
      ),
      volumes,
    },
    inlined,
    { dataKey: setDataKey, signingSeed: setKeys.signingSeed, publicKey: setPublicKey },
  );
  await store.create(logKey(setLineage, toSlot(slot)), encoded.bytes);
  return encoded.record;
}
