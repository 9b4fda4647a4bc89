/** Real copies between directories, killed at random moments; the next one completes what was left, and nothing partial is seen. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runContent } from '../support/tree-spec.ts';
import { Workplace } from '../cli/run-cli.ts';
import { Chance } from './world.ts';

const killsWanted = Math.min(300, Math.max(30, Math.floor(Number(process.env['KILLS'] ?? 0) / 7)));

test(`${killsWanted} kills of copies leave a second store that is sound and completed by the next copy`, async () => {
  using work = new Workplace();
  const chance = new Chance(20_261_129);
  const second = `file:${work.at('second')}`;
  const args = ['copy', '--from', work.store, '--to', second, '--init'];
  const source = work.at('data');
  mkdirSync(source);
  await work.json(['init']);
  let files = 0;
  const change = async (): Promise<void> => {
    for (let i = 0; i < 30; i++) {
      const bytes = 20_000 + chance.below(400_000);
      writeFileSync(join(source, String(files++ % 90)), runContent({ at: 0, bytes, seed: files }));
    }
    await work.json(['checkpoint', source]);
  };
  let kills = 0;
  let unfinished = 0;
  let longestMs = 1500;
  while (kills < killsWanted) {
    await change();
    for (let tries = 0; tries < 5 && kills < killsWanted; tries++) {
      const startedMs = performance.now();
      const ran = await work.run(args, {
        onStart: (child) => setTimeout(() => child.kill('SIGKILL'), chance.next() * longestMs).unref(),
      });
      if (ran.signal !== 'SIGKILL') {
        longestMs = performance.now() - startedMs;
        break;
      }
      kills += 1;
      const seen = await work.run(['verify', '--all', '--read-data', '--output', 'json'], {
        env: { HOLDFAST_STORE: second },
      });
      if (seen.code === 0) continue;
      // Before the first checkpoint is there: no store, no repository, or a claim alone.
      const { error } = JSON.parse(seen.stderr) as { error: { code: string } };
      expect(error.code, seen.stderr).toMatch(/^E_(STORE_UNREACHABLE|REPOSITORY_MISSING|NOT_FOUND|EXPECTED_MISSING)$/);
      unfinished += 1;
    }
    const done = await work.json(args);
    expect(done['lineages']).toMatchObject([{ behind: 0, passed: [] }]);
    expect(await work.json(['verify', '--read-data'], { env: { HOLDFAST_STORE: second } })).toMatchObject({
      sound: true,
    });
  }
  expect(unfinished, 'kills before the first checkpoint was there').toBeLessThan(kills);
  const roots: unknown[] = [];
  for (const [name, store] of [
    ['a', work.store],
    ['b', second],
  ] as const) {
    await work.json(['restore', '--target', work.at(name)], { env: { HOLDFAST_STORE: store } });
    const looked = await work.json(['checkpoint', work.at(name), '--dry-run', '--no-cache'], {
      env: { HOLDFAST_STORE: store },
    });
    roots.push(looked['root']);
  }
  expect(roots[1]).toBe(roots[0]);
}, 900_000);
