/**
 * Real processes on a real server behind a bad network, killed at random moments of checkpoints and restores. What must hold is
 * the same as on a directory (process/killer.ts), and no unfinished upload stays after the next run. A file for each server, so
 * that they run side by side.
 */
import { describe, expect, test } from 'vitest';
import { Killer, killsWanted, newTally } from '../process/killer.ts';
import { World } from '../process/world.ts';
import { installedServers } from '../servers/s3-server.ts';
import type { ServerName } from '../servers/server-programs.ts';
import { faultKinds, S3Place } from './s3-place.ts';

const names: readonly ServerName[] = ['minio', 'versitygw', 'seaweedfs'];
const kills = Math.ceil(killsWanted.s3 / names.length);
/** Of a handful of kills nothing can be said. */
const tellingKills = 10;

/** Defines the test of one server, where it is installed. `application`: one writes into the directory meanwhile. */
export function killsOn(name: ServerName, { application }: { readonly application: boolean }): void {
  describe.each(installedServers(name))('on %s', () => {
    test(`${kills} kills of checkpoints and restores: nothing acknowledged is lost, nothing needs repair`, {
      timeout: 300_000 + kills * 24_000,
    }, async () => {
      await using place = await S3Place.start(name);
      await using world = await World.create({
        seed: 3 + names.indexOf(name),
        bulkFiles: 40,
        largeBytes: 14 * 1024 * 1024,
        partialBytes: '10MiB',
        application,
        store: place,
      });
      const tally = newTally();
      /** What is met by chance. Without it the kills came too early or too late to mean anything. */
      const met = () => ({
        'kills that left an upload': tally.leftovers > 0,
        'captures that resumed': tally.resumedCaptures > 0,
        'restores killed half-way': tally.halfRestores > 0,
        ...Object.fromEntries(faultKinds.map((kind) => [`fault ${kind}`, place.faults.has(kind)])),
      });
      const metAll = (): boolean => kills < tellingKills || Object.values(met()).every(Boolean);
      await new Killer(world, tally, name).run(kills, metAll);
      expect(await place.leftovers()).toBe(0);
      expect(tally.kills).toBeGreaterThanOrEqual(kills);
      process.stdout.write(
        `kills on ${name}: ${JSON.stringify({ ...tally, faults: Object.fromEntries(place.faults) })}\n`,
      );
      expect(metAll(), JSON.stringify(met())).toBe(true);
    });
  });
}
