/**
 * Real processes on real servers behind a bad network, killed at random moments of checkpoints and restores. What must hold is
 * the same as on a directory (process/killer.ts), and no unfinished upload stays after the next run.
 */
import { afterAll, describe, expect, test } from 'vitest';
import { Killer, killsWanted, newTally, type Tally } from '../process/killer.ts';
import { World } from '../process/world.ts';
import { serversForSuite } from '../servers/s3-server.ts';
import { S3Place } from './s3-place.ts';

const servers = serversForSuite('minio', 'versitygw', 'seaweedfs');
const kills = Math.ceil(killsWanted.s3 / Math.max(1, servers.length));
const tallies: Tally[] = [];
const faults = new Map<string, number>();

describe.each(servers)('on %s', (name) => {
  test(`${kills} kills of checkpoints and restores: nothing acknowledged is lost, nothing needs repair`, {
    timeout: 300_000 + kills * 24_000,
  }, async () => {
    await using place = await S3Place.start(name);
    await using world = await World.create({
      seed: 3 + servers.indexOf(name),
      bulkFiles: 40,
      largeBytes: 14 * 1024 * 1024,
      partialBytes: '10MiB',
      application: name === 'versitygw',
      store: place,
    });
    const tally = newTally();
    tallies.push(tally);
    await new Killer(world, tally, name).run(kills);
    expect(await place.leftovers()).toBe(0);
    expect(tally.kills).toBeGreaterThanOrEqual(kills);
    for (const [kind, count] of place.faults) faults.set(kind, (faults.get(kind) ?? 0) + count);
    process.stdout.write(
      `kills on ${name}: ${JSON.stringify({ ...tally, faults: Object.fromEntries(place.faults) })}\n`,
    );
  });
});

afterAll(() => {
  // Else the kills came too early or too late to mean anything; of a handful nothing can be said.
  if (killsWanted.s3 < 50 || servers.length < 3) return;
  const sum = (of: (tally: Tally) => number): number => tallies.reduce((all, tally) => all + of(tally), 0);
  expect(
    sum(({ leftovers }) => leftovers),
    'kills that left an upload',
  ).toBeGreaterThan(killsWanted.s3 / 40);
  expect(
    sum(({ resumedCaptures }) => resumedCaptures),
    'captures that resumed',
  ).toBeGreaterThan(0);
  expect(
    sum(({ halfRestores }) => halfRestores),
    'restores killed half-way',
  ).toBeGreaterThan(0);
  expect([...faults.keys()].sort(), 'faults').toEqual(expect.arrayContaining(['drop', 'late', 'lose-reply', 'stall']));
});
