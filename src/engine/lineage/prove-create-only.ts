/**
 * Proves by doing it that a store refuses to create an object where one stands. Everything rests on that: who took a slot of a
 * log is told by it. Servers have accepted the condition and ignored it, so no list of products is trusted.
 */
import { logKey, probesPrefix } from '../format/object-keys.ts';
import { recordBytesMax } from '../format/record.ts';
import { equalBytes, toHex, utf8Bytes } from '../model/bytes.ts';
import { HoldfastError } from '../model/errors.ts';
import { type Epoch, type LineageName, toSlot } from '../model/ids.ts';
import type { Clock } from '../ports/clock.ts';
import type { CreateOutcome, ObjectWriter, WaitOptions } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';

const racers = 8;
const probeBytesMax = 64;

export interface ProofParts {
  readonly store: ObjectWriter;
  readonly random: RandomSource;
  readonly clock: Clock;
  /** How an upload in parts is completed at a key; undefined for stores that have none. */
  readonly completeOver?: ((key: string, options: WaitOptions) => Promise<CreateOutcome>) | undefined;
  /** Of this trial; random by default. */
  readonly id?: string;
  readonly signal?: AbortSignal;
}

/** What a proof has seen besides. */
export interface Proof {
  /** The store's time of an object that was created in the meantime, and when that was by this host's clock; ms since 1970. */
  readonly clock: { readonly storeMs: number; readonly beforeMs: number; readonly afterMs: number };
}

/**
 * Creates an object twice, which must give `created` and then `exists`; lets eight create another one at the same moment, of
 * which exactly one may win, and whose bytes must stand there; lists both, in order; and completes an upload in parts over one of
 * them, which must give `exists`. E_UNFENCED with the reason when anything of that is otherwise. The verdict is left beside the
 * objects, which nothing reads again; `probeKeys` names all of them.
 */
export async function proveCreateOnly(parts: ProofParts): Promise<Proof> {
  const { store, clock } = parts;
  const waiting = parts.signal === undefined ? {} : { signal: parts.signal };
  const id = parts.id ?? toHex(parts.random.bytes(8));
  const prefix = `${probesPrefix}${id}/`;
  const [twice, race, verdictKey] = probeKeys(id);

  const first = utf8Bytes('first');
  const beforeMs = clock.nowMs();
  const outcomes = [await store.create(twice, first, waiting)];
  const afterMs = clock.nowMs();
  outcomes.push(await store.create(twice, utf8Bytes('second'), waiting));
  if (outcomes[0] !== 'created') throw refused(`a fresh key was answered with "${outcomes[0]}"`);
  if (outcomes[1] !== 'exists') throw refused('an object was overwritten by a write that was to create it');
  await expectBytes(twice, first);

  const bodies = Array.from({ length: racers }, (_, racer) => utf8Bytes(`racer ${racer}`));
  const ends = await Promise.all(bodies.map((body) => store.create(race, body, waiting)));
  const winners = bodies.filter((_, racer) => ends[racer] === 'created');
  const [winner] = winners;
  if (winner === undefined || winners.length !== 1) {
    throw refused(`of ${racers} writers that created one object at once, ${winners.length} were told that they had`);
  }
  await expectBytes(race, winner);

  const listed = await store.list(prefix, waiting);
  const [one, two] = listed;
  if (listed.length !== 2 || one?.key !== race || two?.key !== twice) {
    throw refused('a list does not show, in order, what was created before it');
  }
  if (parts.completeOver !== undefined) {
    if ((await parts.completeOver(twice, waiting)) !== 'exists') {
      throw refused('an object was overwritten by the completion of an upload in parts');
    }
    await expectBytes(twice, first);
  }
  const verdict = { createOnly: true, racers, timeMs: Math.floor(clock.nowMs()) };
  await store.create(verdictKey, utf8Bytes(`${JSON.stringify(verdict)}\n`), waiting);
  return { clock: { storeMs: two.modifiedMs, beforeMs, afterMs } };

  async function expectBytes(key: string, bytes: Uint8Array): Promise<void> {
    const found = await store.get(key, { ...waiting, bytesMax: probeBytesMax });
    if (found === undefined || !equalBytes(found, bytes)) throw refused('another object stands there than was created');
  }
}

/** Where a trial puts its objects. */
export function probeKeys(id: string): readonly [twice: string, race: string, verdict: string] {
  return [`${probesPrefix}${id}/twice`, `${probesPrefix}${id}/race`, `${probesPrefix}${id}/verdict`];
}

/** After a lost reply a store finds our own bytes, and rightly says "created"; not every time. */
const claimAttemptsMax = 3;

/**
 * For a writer that lives long, once when it starts: creates its own CLAIM again, with its own bytes, which the store must refuse. A
 * server may have been changed since the repository was made. E_UNFENCED when it takes it; nothing is lost then, since the bytes are
 * the same. One GET and, as a rule, one PUT: one refusal is proof. E_DAMAGED when there is no CLAIM.
 */
export async function proveOnClaim(
  store: ObjectWriter,
  lineage: LineageName,
  epoch: Epoch,
  options: WaitOptions = {},
): Promise<void> {
  const key = logKey(lineage, toSlot(epoch));
  const claim = await store.get(key, { ...options, bytesMax: recordBytesMax });
  if (claim === undefined) throw new HoldfastError('E_DAMAGED', `the CLAIM ${key} is missing`, { details: { key } });
  for (let attempt = 0; attempt < claimAttemptsMax; attempt++) {
    if ((await store.create(key, claim, options)) === 'exists') return;
  }
  throw refused(`it took the CLAIM of slot ${epoch} a second time`);
}

function refused(seen: string): HoldfastError {
  return new HoldfastError('E_UNFENCED', `this store is not create-only: ${seen}`, { details: { seen } });
}
