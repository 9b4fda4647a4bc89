/** What is restored: a checkpoint that was found, verified and opened. */
import type { PackEntry } from '../format/pack-entry.ts';
import type { LogRecord, RecordBody } from '../format/record.ts';
import type { VolumeCheckpoint } from '../model/checkpoint.ts';
import { HoldfastError } from '../model/errors.ts';
import type { LineageName, VolumeName } from '../model/ids.ts';
import type { FrameCodec } from '../format/pack.ts';
import type { LineageLog } from '../lineage/log.ts';
import type { DomainAccess } from '../lineage/repository.ts';
import { type CheckpointSelector, type ResolveOptions, resolveCheckpoint } from '../lineage/resolve.ts';
import type { ObjectReader } from '../ports/object-store.ts';
import { SegmentSource } from '../tree/segment-source.ts';

export interface RestoreSource {
  readonly lineage: LineageName;
  readonly access: DomainAccess;
  readonly record: LogRecord;
  readonly body: RecordBody;
  /** All that the record lists. */
  readonly packs: readonly PackEntry[];
}

/** Errors as of `resolveCheckpoint`; E_KEY_MISSING, E_DAMAGED when the record's body or pack table cannot be opened. */
export async function findCheckpoint(
  log: LineageLog,
  access: DomainAccess,
  at: CheckpointSelector,
  options: ResolveOptions = {},
): Promise<RestoreSource> {
  const record = await resolveCheckpoint(log, at, options);
  const { packs } = await log.packs(record, options);
  return { lineage: log.lineage, access, record, body: log.body(record), packs };
}

/** E_NOT_FOUND when the checkpoint has no such volume. */
export function getVolume(source: RestoreSource, name: VolumeName): VolumeCheckpoint {
  const found = source.body.volumes.find((volume) => volume.name === name);
  if (found !== undefined) return found;
  const names = source.body.volumes.map((volume) => volume.name).join(', ');
  throw new HoldfastError('E_NOT_FOUND', `the checkpoint has no volume ${name}, only ${names}`);
}

/** The segments that the checkpoint's record lists. */
export function segmentsOf(
  { lineage, access, record, packs }: RestoreSource,
  ports: { readonly store: ObjectReader; readonly compressor: FrameCodec },
  options: { readonly cacheBytes?: number; readonly signal?: AbortSignal | undefined } = {},
): SegmentSource {
  return new SegmentSource({
    store: ports.store,
    compressor: ports.compressor,
    dataKeys: access.dataKeys,
    publicKey: access.publicKey,
    repository: access.repository,
    domain: access.domain,
    lineage,
    origins: record.header.origins,
    packs,
    ...(options.cacheBytes === undefined ? {} : { cacheBytes: options.cacheBytes }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}
