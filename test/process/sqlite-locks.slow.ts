import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createNativeFileTree } from '../../src/edge/host/native-file-tree.ts';
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { type JsonObject, Workplace } from '../cli/run-cli.ts';
import { auditLedger, type LedgerMode } from './ledger.ts';

let work: Workplace;
let data: string;

beforeEach(async () => {
  work = new Workplace();
  data = work.at('data');
  mkdirSync(data);
  await work.json(['init']);
});
afterEach(() => work[Symbol.dispose]());

interface Writer extends AsyncDisposable {
  /** The step that was committed last, as far as it is known. */
  readonly steps: number;
  /** When the next step is known to be committed. */
  next(): Promise<void>;
}

/** A ledger that is written without a rest, and beside it a log that never stands still, whoever waits for whom. */
async function startWriter(mode: LedgerMode): Promise<Writer> {
  const program = fileURLToPath(new URL('children/ledger-writer.ts', import.meta.url));
  const child = spawn(process.execPath, [program, join(data, 'ledger.db'), mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const log = setInterval(() => appendFileSync(join(data, 'never-still.log'), 'a line\n'), 2);
  let steps = 0;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  // Whoever waits for a step that never comes is ended by the limit of the test.
  const next = (): Promise<void> => new Promise((resolve) => child.stdout.once('data', () => resolve()));
  child.stdout.on('data', (chunk: Buffer) => {
    steps = Number(chunk.toString().trim().split('\n').at(-1));
  });
  await next();
  return {
    get steps() {
      return steps;
    },
    next,
    async [Symbol.asyncDispose]() {
      clearInterval(log);
      child.kill('SIGKILL');
      await ended;
    },
  };
}

function database(made: JsonObject): JsonObject | undefined {
  return (made['databases'] as JsonObject[]).find(({ path }) => path === 'ledger.db');
}

async function restored(made: JsonObject): Promise<ReturnType<typeof auditLedger>> {
  const target = work.at('restored');
  const outcome = await work.json(['restore', '--at', String(made['slot']), '--target', target]);
  expect(outcome['root']).toBe(made['root']);
  const audit = auditLedger(join(target, 'ledger.db'));
  rmSync(target, { recursive: true });
  return audit;
}

// "byte for byte as they stood at one instant (proven unchanged, or under shared locks on request)"
describe.each(['wal', 'delete', 'persist'] as const)(
  'a database with journal %s that is written without a rest',
  (mode) => {
    test('is of one moment when it was held, in a volume that never stands still', async () => {
      await using writer = await startWriter(mode);
      for (let round = 0; round < 3; round++) {
        await writer.next();
        const before = writer.steps;
        const made = await work.json(['checkpoint', data, '--sqlite-locks', '--sqlite-wait', '30s']);
        const after = writer.steps;
        expect(made['consistency']).toBe('fuzzy');
        expect(database(made)).toEqual({
          volume: 'data',
          path: 'ledger.db',
          mode: mode === 'wal' ? 'wal' : 'rollback',
          locked: true,
        });
        expect(made['databaseLockMs']).toBeGreaterThan(0);
        expect(made['volumes']).toMatchObject({ data: { fuzzyNames: ['never-still.log'] } });
        const audit = await restored(made);
        expect(audit, `round ${round}`).toMatchObject({ integrity: 'ok', wrong: 0 });
        expect(audit.steps).toBeGreaterThanOrEqual(before);
        // A step may be committed a moment before its application has said so.
        expect(audit.steps).toBeLessThanOrEqual(after + 1);
        // The writer goes on.
        await writer.next();
        expect(
          readdirSync(data).filter((name) => !/^(ledger\.db(-wal|-shm|-journal)?|never-still\.log)$/.test(name)),
        ).toEqual([]);
      }
    });

    test('is torn when nobody holds it, and said to be fuzzy', async () => {
      await using writer = await startWriter(mode);
      let torn = 0;
      for (let round = 0; round < 30 && torn === 0; round++) {
        await writer.next();
        const made = await work.json(['checkpoint', data, '--passes', '1']);
        expect(made['databases']).toBeUndefined();
        const audit = await restored(made);
        if (audit.integrity === 'ok' && audit.wrong === 0) continue;
        torn++;
        const { fuzzyNames } = (made['volumes'] as Record<string, JsonObject>)['data'] as JsonObject;
        expect(made['consistency']).toBe('fuzzy');
        expect(String(fuzzyNames)).toContain('ledger.db');
      }
      expect(torn, 'a copy that is not whole').toBeGreaterThan(0);
    });
  },
);

const mounts =
  process.platform === 'linux' && spawnSync('unshare', ['-m', 'sh', '-c', 'mount --bind /tmp /tmp']).status === 0;

test.runIf(mounts)('a database is held through a mount that is read-only', async () => {
  await using writer = await startWriter('wal');
  const view = work.at('view');
  mkdirSync(view);
  const script = 'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && shift 2 && exec "$@"';
  const under = ['unshare', '-m', 'sh', '-c', script, 'sh', data, view];
  const made = await work.json(['checkpoint', view, '--sqlite-locks', '--sqlite-wait', '30s'], { under });
  expect(database(made)).toMatchObject({ mode: 'wal', locked: true });
  expect(await restored(made)).toMatchObject({ integrity: 'ok', wrong: 0 });
  await writer.next();
});

test('what is volatile is said by checkpoint, show and restore', async () => {
  await using writer = await startWriter('wal');
  await writer.next();
  const volatile = 'volatile 1  ledger.db-shm';
  expect((await work.run(['checkpoint', data])).stdout).toContain(volatile);
  expect((await work.run(['show'])).stdout).toContain(volatile);
  expect((await work.run(['restore', '--target', work.at('all')])).stdout).toContain(volatile);
  const some = await work.json(['restore', '--target', work.at('some'), '--only', '*.db', '--only', '*-wal']);
  expect(some['volumes']).toMatchObject({ data: { volatileCount: 0, volatileNames: [] } });
  const index = await work.json(['restore', '--target', work.at('index'), '--only', '*-shm']);
  expect(index['volumes']).toMatchObject({ data: { volatileCount: 1, volatileNames: ['ledger.db-shm'] } });
});

test('how long to wait is asked only of a checkpoint that locks', async () => {
  expect(await work.error(['checkpoint', data, '--sqlite-wait', '1s'])).toMatchObject({ code: 'E_USAGE' });
  expect(await work.error(['checkpoint', data, '--sqlite-locks', '--sqlite-wait', 'long'])).toMatchObject({
    code: 'E_USAGE',
  });
});

test('without system calls it is said that nothing was held', async () => {
  await using writer = await startWriter('wal');
  const made = await work.json(['checkpoint', data, '--sqlite-locks'], { env: { HOLDFAST_FILE_TREE: 'node' } });
  expect(database(made)).toMatchObject({ path: 'ledger.db', locked: false, reason: 'unsupported' });
  await writer.next();
});

test('that the application has stopped is checked', async () => {
  const leases = leasesIn(data);
  {
    await using writer = await startWriter('wal');
    const made = await work.json(['checkpoint', data, '--quiesced']);
    expect(['converged', 'fuzzy']).toContain(made['consistency']);
    const refuted = made['refuted'] as JsonObject[];
    const open = refuted.find(({ reason }) => reason === 'writer');
    expect(String(open?.['names'])).toContain('ledger.db');
    expect(refuted.map(({ reason }) => reason)).toContain('changed');
    await writer.next();
    const text = await work.run(['checkpoint', data, '--quiesced']);
    expect(text.stdout).toContain('not quiesced: a writer cannot be ruled out');
  }
  const made = await work.json(['checkpoint', data, '--quiesced']);
  expect(made['consistency']).toBe(leases ? 'quiesced' : 'converged');
  if (leases) expect(made['refuted']).toEqual([]);
  const shown = await work.json(['show', '--at', String(made['slot'])]);
  expect(shown).toMatchObject({ consistency: made['consistency'] });
  expect(await restored(made)).toMatchObject({ integrity: 'ok', wrong: 0 });
});

/** Not on overlayfs and network file systems, and not without the right. */
function leasesIn(directory: string): boolean {
  const { tree } = createNativeFileTree();
  if (tree === undefined) return false;
  const path = join(directory, 'probe');
  appendFileSync(path, 'x');
  const root = tree.openRoot(directory);
  const file = tree.openFile(root, { names: utf8Bytes('probe\0'), start: 0 });
  const granted = !tree.mayHaveWriter(file);
  tree.close(file);
  tree.close(root);
  return granted;
}
