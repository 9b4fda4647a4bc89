import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDirectoryReader } from '../../../src/edge/store/directory-store.ts';
import { childProgram } from './child-process.ts';

/** A process that creates what it is told, line by line. */
class Racer {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<unknown>;

  constructor(root: string, name: string) {
    this.#process = spawn(process.execPath, [childProgram('race'), root, name], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#ended = new Promise((resolve) => this.#process.on('exit', resolve));
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async answer(): Promise<string> {
    return (await this.#lines.next()).value ?? 'ended';
  }

  race(key: string): Promise<string> {
    this.#process.stdin.write(`${key}\n`);
    return this.answer();
  }

  async end(): Promise<void> {
    this.#process.stdin.end();
    await this.#ended;
  }
}

let root: string;
let racers: Racer[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'holdfast-race-'));
  racers = Array.from({ length: 8 }, (_, at) => new Racer(root, `racer ${at}`));
});
afterEach(async () => {
  await Promise.all(racers.map((racer) => racer.end()));
  await rm(root, { recursive: true });
});

test('of eight processes exactly one makes each of a hundred objects, also in directories that nobody made yet', async () => {
  expect(await Promise.all(racers.map((racer) => racer.answer()))).toEqual(Array(8).fill('ready'));
  await using store = await openDirectoryReader(root);
  const wins = new Map<number, number>();
  for (let round = 0; round < 100; round += 1) {
    // Every tenth round is the first in its directories.
    const key = `v1/l/${Math.floor(round / 10)}/log/${round}`;
    const outcomes = await Promise.all(racers.map((racer) => racer.race(key)));
    const winner = outcomes.indexOf('created');
    expect(outcomes.toSorted()).toEqual(['created', ...Array<string>(7).fill('exists')]);
    const content = await store.get(key, { bytesMax: 1000 });
    expect(new TextDecoder().decode(content)).toBe(`racer ${winner} made ${key}`);
    wins.set(winner, (wins.get(winner) ?? 0) + 1);
  }
  // Else this was no race.
  expect(wins.size).toBeGreaterThan(1);
  expect(await store.list('v1/')).toHaveLength(100);
  expect(await readdir(join(root, 'tmp'))).toEqual([]);
});
