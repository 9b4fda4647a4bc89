import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Workplace } from '../cli/run-cli.ts';
import { auditBank, bankTotal } from './bank.ts';

let work: Workplace;

beforeEach(async () => {
  work = new Workplace();
  mkdirSync(work.at('data'));
  await work.json(['init']);
});
afterEach(() => work[Symbol.dispose]());

interface Writer extends AsyncDisposable {
  /** Transfers that the application knows to be committed. */
  readonly committed: number;
  /** A long transaction is open, most of it in the WAL already. */
  readonly within: boolean;
}

async function startBank(file: string): Promise<Writer> {
  const program = fileURLToPath(new URL('children/bank-writer.ts', import.meta.url));
  const child = spawn(process.execPath, [program, file], { stdio: ['ignore', 'pipe', 'inherit'] });
  let committed = 0;
  let within = false;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the writer ended with ${code}`)));
    child.stdout.on('data', (chunk: Buffer) => {
      const last = chunk.toString().trim().split('\n').at(-1) ?? '';
      within = last.startsWith('within ');
      committed = Number(last.replace('within ', ''));
      resolve();
    });
  });
  return {
    get committed() {
      return committed;
    },
    get within() {
      return within;
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

test('every converged checkpoint of a database that is written to opens whole, with committed transactions only', async () => {
  const rounds = 24;
  const seen: number[] = [];
  const shm = { kept: 0, scrambled: 0, absent: 0 };
  let inLongTransaction = 0;
  await using writer = await startBank(work.at('data', 'bank.db'));
  for (let round = 0; round < rounds; round++) {
    const before = writer.committed;
    const withinBefore = writer.within;
    const made = await work.json(['checkpoint', work.at('data'), '--passes', '20']);
    const within = withinBefore && writer.within && writer.committed === before;
    const target = work.at('restored');
    const restored = await work.json(['restore', '--at', String(made['slot']), '--target', target]);
    expect(restored['root']).toBe(made['root']);
    const after = writer.committed;
    if (made['consistency'] !== 'converged') {
      rmSync(target, { recursive: true });
      continue;
    }
    expect(existsSync(join(target, 'bank.db-wal')), 'a WAL beside the database').toBe(true);
    const sidecar = join(target, 'bank.db-shm');
    const form = (['kept', 'scrambled', 'absent'] as const)[seen.length % 3] as keyof typeof shm;
    shm[form]++;
    if (form === 'scrambled') writeFileSync(sidecar, randomBytes(statSync(sidecar).size));
    if (form === 'absent') rmSync(sidecar);
    const audit = auditBank(join(target, 'bank.db'));
    expect(audit, `round ${round}, -shm ${form}`).toMatchObject({ integrity: 'ok', total: bankTotal, missing: 0 });
    // What was committed before the checkpoint began is in it; of what came later, only whole transactions.
    expect(audit.transfers).toBeGreaterThanOrEqual(before);
    // A transaction may be committed a moment before its application has said so.
    expect(audit.transfers).toBeLessThanOrEqual(after + 400);
    if (within) {
      expect(audit.transfers, 'a transaction that was open').toBe(before);
      inLongTransaction++;
    }
    seen.push(audit.transfers);
    rmSync(target, { recursive: true });
  }
  expect(seen.length, 'converged checkpoints').toBeGreaterThan(rounds / 2);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(Math.min(...Object.values(shm))).toBeGreaterThan(2);
  expect(inLongTransaction, 'checkpoints while a transaction was open').toBeGreaterThan(0);
  expect(await work.json(['verify', '--read-data', '--all'])).toMatchObject({ sound: true });
});
