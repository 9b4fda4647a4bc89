import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';

const program = `
  const { beNice } = await import(${JSON.stringify(new URL('../../../src/edge/host/be-nice.ts', import.meta.url).href)});
  beNice();
  const { getPriority } = await import('node:os');
  const { readFileSync, existsSync } = await import('node:fs');
  const group = '/proc/self/autogroup';
  console.log(JSON.stringify([getPriority(), existsSync(group) ? readFileSync(group, 'utf8').trim().split(' ')[2] : null]));`;

async function priorities(detached: boolean): Promise<readonly [number, string | null]> {
  const args = ['--input-type=module', '--eval', program];
  const child = spawn(process.execPath, args, { detached, stdio: ['ignore', 'pipe', 'inherit'] });
  let told = '';
  child.stdout.on('data', (chunk: Buffer) => {
    told += chunk.toString();
  });
  await once(child, 'close');
  return JSON.parse(told) as [number, string | null];
}

test('an agent steps back behind its application, with its whole session where that is its own', async () => {
  const [own, group] = await priorities(true);
  expect(own).toBe(15);
  if (existsSync('/proc/sys/kernel/sched_autogroup_enabled')) expect(group).toBe('15');
  // A session of others is left alone.
  const before = execFileSync('sh', ['-c', 'cat /proc/self/autogroup 2>/dev/null || true'], { encoding: 'utf8' });
  const [shared, theirs] = await priorities(false);
  expect(shared).toBe(15);
  if (before !== '') expect(theirs).toBe(before.trim().split(' ')[2]);
});
