import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { JsonObject } from '../cli/run-cli.ts';
import { AgentPlace } from './agent-process.ts';
import { metricsOf } from './metrics-of.ts';

const mebibyte = 1024 * 1024;

test('an agent with a limit takes its time, says so, and hurries when it is told to stop', async () => {
  using place = await AgentPlace.make();
  writeFileSync(join(place.volume, 'one'), randomBytes(3 * mebibyte));
  await using agent = place.agent(['--limit-upload', '1MiB', '--schedule', '1h']);
  const { seconds } = (await agent.until('committed')) as JsonObject;
  expect(seconds).toBeGreaterThan(1.5);
  expect(await place.status()).toMatchObject({ uploadLimitBytesPerSecond: mebibyte });
  const metrics = await metricsOf(place.stateOf('pod-1'));
  expect(metrics.get('holdfast_upload_limit_bytes_per_second')).toBe(mebibyte);
  expect(metrics.get('holdfast_upload_held_back_seconds_total')).toBeGreaterThan(1.5);
  // Sixty seconds of it, and a grace of ten.
  writeFileSync(join(place.volume, 'two'), randomBytes(60 * mebibyte));
  expect(await agent.stop()).toEqual({ code: 0, signal: null });
  expect(await place.restore('back')).toMatchObject({ volumes: { data: { files: 2 } } });
});

test('a restore with a limit takes its time as well', async () => {
  using place = await AgentPlace.make();
  writeFileSync(join(place.volume, 'one'), randomBytes(3 * mebibyte));
  await place.work.json(['checkpoint', place.volume, '--limit-upload', '100MiB']);
  const begun = performance.now();
  await place.work.json(['restore', '--target', place.work.at('back'), '--limit-download', '1MiB']);
  expect(performance.now() - begun).toBeGreaterThan(1500);
});
