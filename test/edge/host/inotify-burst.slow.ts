import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { InotifySource } from '../../../src/edge/host/inotify-source.ts';

/** Makes `count` files in each of several threads, without a pause. */
async function burst(directory: string, threads: number, count: number): Promise<void> {
  const code = `const { openSync, closeSync } = require('node:fs'); const { workerData: { directory, count } } = require('node:worker_threads');
    for (let i = 0; i < count; i++) closeSync(openSync(directory + '/' + i, 'w'));`;
  await Promise.all(
    Array.from({ length: threads }, (_, i) => {
      const own = join(directory, `t${i}`);
      mkdirSync(own);
      const worker = new Worker(code, { eval: true, workerData: { directory: own, count } });
      return new Promise<void>((resolve, reject) => worker.on('exit', () => resolve()).on('error', reject));
    }),
  );
}

test.each([500_000, 65_536])(
  'of 200,000 files made in a burst on tmpfs none is lost without notice',
  async (namesMax) => {
    const directory = mkdtempSync('/dev/shm/holdfast-burst-');
    try {
      const source = await InotifySource.start(directory, { namesMax });
      await source.take();
      await burst(directory, 2, 100_000);
      const changes = await source.take();
      if (changes.kind === 'names') {
        const names = new Set([...changes.names.entries()].map(([key]) => key));
        expect(names.size).toBe(200_002);
      } else expect(['overflow', 'burst']).toContain(changes.reason);
      // Whatever came of it, all directories are watched again.
      writeFileSync(join(directory, 't1/after'), '');
      const after = await source.take();
      expect(after.kind === 'names' && [...after.names.entries()]).toEqual([['t1\0after', false]]);
      await source.close();
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
  60_000,
);
