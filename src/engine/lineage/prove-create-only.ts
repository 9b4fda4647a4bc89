/**
 * Proves by doing it that a store refuses to create an object where one stands. Everything rests on that: who took a slot of a
 * log is told by it. Servers have accepted the condition and ignored it, so no list of products is trusted.
 */
import { probesPrefix } from '../format/object-keys.ts';
import { equalBytes, toHex, utf8Bytes } from '../model/bytes.ts';
import { HoldfastError } from '../model/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { ObjectWriter } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';

const racers = 8;
const probeBytesMax = 64;

/**
 * Creates an object twice, which must give `created` and then `exists`; lets eight create another one at the same moment, of
 * which exactly one may win, and whose bytes must stand there; and lists both, in order. E_UNFENCED with the reason when
 * anything of that is otherwise. The verdict is left beside the objects, which nothing reads again.
 */
export async function proveCreateOnly(parts: {
  readonly store: ObjectWriter;
  readonly random: RandomSource;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}): Promise<void> {
  const { store, clock } = parts;
  const waiting = parts.signal === undefined ? {} : { signal: parts.signal };
  const prefix = `${probesPrefix}${toHex(parts.random.bytes(8))}/`;

  const twice = `${prefix}twice`;
  const first = utf8Bytes('first');
  const outcomes = [
    await store.create(twice, first, waiting),
    await store.create(twice, utf8Bytes('second'), waiting),
  ] as const;
  if (outcomes[0] !== 'created') throw refused(`a fresh key was answered with "${outcomes[0]}"`);
  if (outcomes[1] !== 'exists') throw refused('an object was overwritten by a write that was to create it');
  await expectBytes(twice, first);

  const race = `${prefix}race`;
  const bodies = Array.from({ length: racers }, (_, racer) => utf8Bytes(`racer ${racer}`));
  const ends = await Promise.all(bodies.map((body) => store.create(race, body, waiting)));
  const winners = bodies.filter((_, racer) => ends[racer] === 'created');
  const [winner] = winners;
  if (winner === undefined || winners.length !== 1) {
    throw refused(`of ${racers} writers that created one object at once, ${winners.length} were told that they had`);
  }
  await expectBytes(race, winner);

  const listed = (await store.list(prefix, waiting)).map(({ key }) => key);
  if (listed.length !== 2 || listed[0] !== race || listed[1] !== twice) {
    throw refused('a list does not show, in order, what was created before it');
  }
  const verdict = { createOnly: true, racers, timeMs: Math.floor(clock.nowMs()) };
  await store.create(`${prefix}verdict`, utf8Bytes(`${JSON.stringify(verdict)}\n`), waiting);

  async function expectBytes(key: string, bytes: Uint8Array): Promise<void> {
    const found = await store.get(key, { ...waiting, bytesMax: probeBytesMax });
    if (found === undefined || !equalBytes(found, bytes)) throw refused('another object stands there than was created');
  }
}

function refused(seen: string): HoldfastError {
  return new HoldfastError('E_UNFENCED', `this store is not create-only: ${seen}`, { details: { seen } });
}
