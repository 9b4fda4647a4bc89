/** Real processes on a real disk, killed at random moments of checkpoints and restores. See killer.ts for what must hold. */
import { expect, test } from 'vitest';
import { Killer, killsWanted, newTally, type Tally } from './killer.ts';
import { World } from './world.ts';

const kills = killsWanted.directory;

test(`${kills} kills of checkpoints and restores: nothing acknowledged is lost, nothing needs repair`, {
  timeout: 60_000 + kills * 4000,
}, async () => {
  const tallies = [newTally(), newTally()] as const;
  await using quiet = await World.create({ seed: 1, bulkFiles: 90, application: false });
  await using busy = await World.create({ seed: 2, bulkFiles: 90, application: true });
  await Promise.all([
    new Killer(quiet, tallies[0], 'quiet').run(Math.ceil(kills / 2)),
    new Killer(busy, tallies[1], 'busy').run(Math.ceil(kills / 2)),
  ]);
  const sum = (of: (tally: Tally) => number): number => of(tallies[0]) + of(tallies[1]);
  process.stdout.write(`kills: ${JSON.stringify(tallies)}\n`);
  expect(sum(({ kills }) => kills)).toBeGreaterThanOrEqual(kills);
  // Else the kills came too early or too late to mean anything; of a handful nothing can be said.
  if (kills < 100) return;
  expect(
    sum(({ leftovers }) => leftovers),
    'half-written objects',
  ).toBeGreaterThan(kills / 80);
  expect(
    sum(({ resumedCaptures }) => resumedCaptures),
    'captures that resumed',
  ).toBeGreaterThan(kills / 80);
  expect(
    sum(({ halfRestores }) => halfRestores),
    'restores killed half-way',
  ).toBeGreaterThan(kills / 80);
});
