/** Which suspect checkpoints of a lineage were released, and releasing one. */
import { ackKey, ackPrefix } from '../format/object-keys.ts';
import type { LogRecord } from '../format/record.ts';
import { encodeRelease, openRelease, type Release, releaseBytesMax } from '../format/release.ts';
import { equalBytes, toHex } from '../model/bytes.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import type { LineageName } from '../model/ids.ts';
import type { Clock } from '../ports/clock.ts';
import type { ObjectReader, ObjectWriter } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import { createObject } from './create-object.ts';
import type { DomainVerifier } from './log.ts';
import type { DomainAccess } from './repository.ts';

interface Waiting {
  readonly signal?: AbortSignal | undefined;
}

/** A lineage with more has been filled with junk by somebody. */
const releasesReadMax = 1000;

/** All that are genuine. Junk beside them is passed over: whoever may write there could otherwise take back what was released. */
export async function readReleases(
  store: ObjectReader,
  access: DomainVerifier,
  lineage: LineageName,
  { signal }: Waiting = {},
): Promise<readonly Release[]> {
  const waiting = signal === undefined ? {} : { signal };
  const listed = await store.list(ackPrefix(lineage), { ...waiting, limit: releasesReadMax });
  const found = await Promise.all(
    listed.map(async ({ key, bytes: size }) => {
      if (size > releaseBytesMax) return undefined;
      const bytes = await store.get(key, { ...waiting, bytesMax: releaseBytesMax });
      try {
        return bytes === undefined ? undefined : openRelease(bytes, { ...access, lineage });
      } catch (error) {
        if (isHoldfastError(error, 'E_DAMAGED')) return undefined;
        throw error;
      }
    }),
  );
  return found.filter((release) => release !== undefined);
}

/** The release of that record, if there is one. */
export function releaseOf(releases: readonly Release[], record: LogRecord): Release | undefined {
  return releases.find(({ slot, digest }) => slot === record.header.slot && equalBytes(digest, record.digest));
}

/**
 * Makes a suspect checkpoint one that counts like any other, for whoever looks from now on. Several releases of one record do no harm.
 * E_LIMIT for a reason that is too long; E_STORE_*.
 */
export async function releaseCheckpoint(
  parts: {
    readonly store: ObjectWriter;
    readonly access: DomainAccess;
    readonly clock: Clock;
    readonly random: RandomSource;
  },
  record: LogRecord,
  { by, reason, signal }: { readonly by: string; readonly reason: string; readonly signal?: AbortSignal | undefined },
): Promise<Release> {
  const { access, clock, random } = parts;
  const { slot, lineage, kind, suspect } = record.header;
  invariant(kind === 'CHECKPOINT' && suspect, 'only a suspect checkpoint is released');
  const release: Release = { slot, digest: record.digest, timeMs: Math.floor(clock.nowMs()), by, reason };
  const bytes = encodeRelease({ ...access, lineage }, release, access.keys.signingSeed);
  const key = ackKey(lineage, slot, toHex(random.bytes(16)));
  const made = await createObject(parts, key, bytes, { bytesMax: releaseBytesMax, signal });
  if (made.outcome !== 'created') throw new HoldfastError('E_STORE_IO', `${key} exists already with other bytes`);
  return release;
}
