/** Databases that write through a mapping show neither in events nor, while a page is dirty, in mtime. */
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { mapFile } from '../support/tree-mapping.ts';
import { Chance } from './world.ts';

const pageBytes = 4096;
const pages = 32;
const tmpfsMagic = 0x01021994;

let work: Workplace;

beforeEach(async () => {
  work = new Workplace();
  await work.json(['init']);
});
afterEach(() => work[Symbol.dispose]());

describe.each([
  { name: 'a disk', parent: tmpdir(), tmpfs: false },
  { name: 'tmpfs', parent: '/dev/shm', tmpfs: true },
])('on $name', ({ parent, tmpfs }) => {
  test('no write through a mapping is missed by the next checkpoint', async () => {
    const directory = mkdtempSync(join(parent, 'holdfast-mapped-'));
    try {
      expect(statfsSync(directory).type === tmpfsMagic, `${parent} is what this test needs`).toBe(tmpfs);
      mkdirSync(join(directory, 'others'));
      for (let i = 0; i < 200; i++) writeFileSync(join(directory, 'others', String(i)), 'x'.repeat(i * 20));
      const content = Buffer.alloc(pages * pageBytes, '.');
      writeFileSync(join(directory, 'mapped.db'), content);
      const mapping = mapFile(join(directory, 'mapped.db'), content.length);
      const chance = new Chance(tmpfs ? 7 : 8);
      const write = (round: number): void => {
        const at = chance.below(content.length);
        const byte = 0x41 + (round % 26);
        const end = Math.min(at + 1 + chance.below(20), content.length);
        content.fill(byte, at, end);
        mapping.fill(byte, at, end);
      };
      const missed: number[] = [];
      let took = 300;
      try {
        await work.json(['checkpoint', directory]);
        for (let round = 0; round < 16; round++) {
          // Writes before, and at some moment while a checkpoint runs: whatever that one has seen, the next one must see all.
          if (round % 3 === 0) write(round);
          const began = performance.now();
          const running = work.json(['checkpoint', directory, '--passes', '1']);
          await new Promise((resolve) => setTimeout(resolve, chance.next() * took));
          write(round + 5);
          await running;
          took = performance.now() - began;
          const { consistency } = await work.json(['checkpoint', directory]);
          expect(consistency, 'nothing moves').toBe('converged');
          const { stdout } = await work.run(['cat', 'mapped.db']);
          if (Buffer.from(stdout, 'latin1').compare(content) !== 0) missed.push(round);
        }
      } finally {
        mapping.close();
      }
      expect(missed, 'rounds whose write is not in the checkpoint after it').toEqual([]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
