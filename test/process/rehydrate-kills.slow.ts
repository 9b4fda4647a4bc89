/**
 * The init container killed at random moments, of one pod after the other on one lineage: the next run goes on, what it says to be done is
 * whole, and nothing that was acknowledged is lost on the way from pod to pod.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { runContent } from '../support/tree-spec.ts';
import { Pod } from './pod.ts';
import { Chance } from './world.ts';

const kills = Math.max(20, Math.round(Number(process.env['KILLS'] ?? 200) / 8));

const places: Workplace[] = [];
afterEach(() => {
  for (const place of places.splice(0)) place[Symbol.dispose]();
});

function contentOf(directory: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    found[path.slice(directory.length)] = readFileSync(path, 'latin1');
  }
  return found;
}

describe('killed at random moments', () => {
  test(`${kills} times, every pod gets what the one before had`, { timeout: 1_200_000 }, async () => {
    const seed = Number(process.env['SEED'] ?? 20_261);
    const chance = new Chance(seed);
    const place = new Workplace();
    places.push(place);
    await place.json(['init']);
    let expected: Readonly<Record<string, string>> = {};
    let killed = 0;
    let half = 0;
    let untold = 0;
    let durationMs = 1000;
    for (let number = 1; killed < kills; number++) {
      const pod = new Pod(place, `pod-${number}`);
      const first = number === 1;
      let done = false;
      for (let time = 0; time < 4 && !done; time++) {
        // Anywhere, or from the moment when the first bytes are written.
        const delayMs = time === 3 ? undefined : chance.below(Math.round(durationMs * 1.1));
        const delayInRestoreMs = chance.below(400);
        const inRestore = !first && chance.below(3) > 0;
        const started = performance.now();
        const ran = await pod.rehydrate([], {
          onStart: (child) => {
            if (delayMs === undefined) return;
            const kill = (): boolean => child.kill('SIGKILL');
            if (!inRestore) setTimeout(kill, delayMs);
            else {
              child.stderr?.on('data', (chunk) => {
                if (String(chunk).includes('rehydrate.restore')) setTimeout(kill, delayInRestoreMs);
              });
            }
          },
        });
        const content = contentOf(pod.data);
        const marked = pod.marker()?.['phase'] === 'done';
        if (ran.signal === 'SIGKILL') {
          killed++;
          if (marked) untold++;
          else if (Object.keys(content).length > 0 && Object.keys(content).length < Object.keys(expected).length)
            half++;
        } else {
          expect({ seed, number, code: ran.code, stderr: ran.stderr }).toMatchObject({ code: 0 });
          if (time === 0) durationMs = performance.now() - started;
          done = true;
        }
        // What is said to be done is whole, whether or not its process could say so.
        if (marked || done) expect(content, `seed ${seed}, pod ${number}`).toEqual(expected);
      }
      expect(pod.marker()).toMatchObject({ phase: 'done', suspect: false });
      // The application, and its agent.
      for (let i = 0; i < (first ? 1500 : 40); i++) {
        const bytes = 2000 + chance.below(20_000);
        writeFileSync(
          join(pod.data, `file-${first ? i : chance.below(1600)}`),
          runContent({ at: 0, bytes, seed: number * 1000 + i }),
        );
      }
      await pod.checkpoint(chance.below(2) === 0 ? ['--seal'] : []);
      expected = contentOf(pod.data);
    }
    await place.json(['verify', '--read-data']);
    process.stderr.write(
      `rehydrate: ${killed} kills, ${half} half restores, ${untold} done and untold, seed ${seed}\n`,
    );
    expect(half, 'kills in the middle of a restore').toBeGreaterThan(0);
  });
});
