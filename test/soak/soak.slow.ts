/**
 * An agent beside an application that never rests, for two minutes, or an hour with `npm run nightly`: what it holds does not grow,
 * neither memory, descriptors and threads, nor its state directory, nor what stands in the store beyond one or two objects of each checkpoint.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { Sites } from '../agent/site.ts';
import type { AgentPlace } from '../agent/agent-process.ts';
import type { JsonObject } from '../cli/run-cli.ts';
import { serversForSuite } from '../servers/s3-server.ts';

const seconds = Number(process.env['SOAK_SECONDS'] ?? 120);
const mebibyte = 1024 * 1024;
/** What the collector of V8 leaves for later: 2 to 6 MiB more were measured after two minutes. */
const growthBytesMax: number = 12 * mebibyte;

const sites = new Sites();
afterAll(() => sites[Symbol.asyncDispose]());

interface Sample {
  readonly residentBytes: number;
  readonly descriptors: number;
  readonly threads: number;
  readonly stateBytes: number;
  readonly stateFiles: number;
}

function filesBelow(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** A store in a directory keeps the last packs open that it has read from: of those there may be 16. */
function descriptorsOf(place: AgentPlace, pid: number): number {
  const targets = readdirSync(`/proc/${pid}/fd`).map((name) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${name}`);
    } catch {
      return '';
    }
  });
  return targets.filter((target) => target !== '' && !target.startsWith(place.work.at('store'))).length;
}

function sampleOf(place: AgentPlace, pid: number): Sample {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  // Files of the cache come and go meanwhile.
  const sizes = filesBelow(place.stateOf('pod-1')).map((path) => statSync(path, { throwIfNoEntry: false })?.size ?? 0);
  return {
    residentBytes: field('VmRSS') * 1024,
    threads: field('Threads'),
    descriptors: descriptorsOf(place, pid),
    stateBytes: sizes.reduce((sum, bytes) => sum + bytes, 0),
    stateFiles: sizes.length,
  };
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Medians of the second fifth and of the last one: the first still loads and compiles. */
function earlyAndLate(
  samples: readonly Sample[],
  name: keyof Sample,
): { readonly early: number; readonly late: number } {
  const fifth = (n: number): number[] =>
    samples.slice((samples.length * n) / 5, (samples.length * (n + 1)) / 5).map((sample) => sample[name]);
  return { early: median(fifth(1)), late: median(fifth(4)) };
}

describe.concurrent('an agent that checkpoints every second', () => {
  test.each(['file', ...serversForSuite('minio')])(
    `on %s holds no more after ${seconds} s than before`,
    async (store) => {
      await using site = await sites.on(store);
      const { place } = site;
      const program = fileURLToPath(new URL('steady-writer.ts', import.meta.url));
      const writer = spawn(process.execPath, [program, place.volume], { stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = once(writer, 'exit');
      try {
        await once(writer.stdout, 'data');
        await using agent = place.agent(['--schedule', '1s', '--grace', '60s']);
        await agent.until('committed');
        const pid = agent.child.pid as number;
        const samples: Sample[] = [];
        const everyMs = Math.max(2000, (seconds * 1000) / 200);
        for (const end = performance.now() + seconds * 1000; performance.now() < end; await sleep(everyMs)) {
          samples.push(sampleOf(place, pid));
        }
        writer.kill('SIGTERM');
        await ended;
        expect(await agent.stop()).toEqual({ code: 0, signal: null });
        expect(agent.events('failed')).toEqual([]);

        const figures = Object.fromEntries(
          (['residentBytes', 'descriptors', 'threads', 'stateBytes', 'stateFiles'] as const).map((name) => [
            name,
            earlyAndLate(samples, name),
          ]),
        ) as Record<keyof Sample, { readonly early: number; readonly late: number }>;
        const committed = agent.events('committed').length;
        const objects = objectsIn(place);
        const { packs } = await place.work.json(['show']);
        const livePacks = (packs as JsonObject[]).length;
        process.stdout.write(`${JSON.stringify({ store, seconds, committed, objects, livePacks, ...figures })}\n`);
        expect(committed).toBeGreaterThan(seconds / 20);
        expect(figures.residentBytes.late).toBeLessThan(figures.residentBytes.early + growthBytesMax);
        expect(figures.descriptors.late).toBeLessThanOrEqual(figures.descriptors.early + 3);
        expect(figures.threads.late).toBeLessThanOrEqual(figures.threads.early + 1);
        expect(figures.stateFiles.late).toBeLessThanOrEqual(figures.stateFiles.early + 4);
        expect(figures.stateBytes.late).toBeLessThan(figures.stateBytes.early * 1.5 + mebibyte);
        // Nothing is deleted yet: each checkpoint leaves its record and at most two packs, and of those that are used compaction keeps few.
        if (objects !== undefined) expect(objects).toBeLessThan(committed * 3 + 20);
        expect(livePacks).toBeLessThan(400);
        await place.restore('back');
      } finally {
        writer.kill('SIGKILL');
        await ended;
      }
    },
  );
});

/** Of a store in a directory. */
function objectsIn(place: AgentPlace): number | undefined {
  const directory = place.work.at('store');
  return statSync(directory, { throwIfNoEntry: false }) === undefined ? undefined : filesBelow(directory).length;
}
