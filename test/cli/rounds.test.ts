/**
 * How often a one-shot checkpoint waits for its store, one wait after the other: what a distant store costs. Counted in rounds of
 * requests that do not depend on each other (`RoundsStore`), so no clock and no busy machine changes the numbers.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { chooseCompressor } from '../../src/edge/host/choose-compressor.ts';
import { createKeyFile, openKeyFile } from '../../src/edge/host/file-key-ring.ts';
import { openHolderDirectory } from '../../src/edge/host/holder-directory.ts';
import { RestoreMarkerFile } from '../../src/edge/host/restore-marker-file.ts';
import { systemRandom } from '../../src/edge/host/system-random.ts';
import { MemoryStore } from '../../src/edge/store/memory-store.ts';
import { checkpoint } from '../../src/cli/checkpoint.ts';
import { commands } from '../../src/cli/commands.ts';
import type { Counted, Host } from '../../src/cli/host.ts';
import { parseOptions } from '../../src/cli/options.ts';
import { createRepository } from '../../src/engine/lineage/repository.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import type { ObjectWriter } from '../../src/engine/ports/object-store.ts';
import { ManualClock } from '../support/capture-fixture.ts';
import { MemoryCache } from '../support/memory-cache.ts';
import { MemoryFileSystem, MemoryFileTree } from '../support/memory-file-tree.ts';
import { RoundsStore } from '../support/rounds-store.ts';

const directory = mkdtempSync(join(tmpdir(), 'holdfast-rounds-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A person's machine: a memory disk with one directory, the command's own files on the real one. */
class Machine {
  readonly clock: ManualClock = new ManualClock();
  readonly disk: MemoryFileSystem = new MemoryFileSystem({ clock: this.clock });
  readonly #name: string;
  readonly #store: MemoryStore;
  readonly #cache = new MemoryCache();

  constructor(name: string, store: MemoryStore) {
    this.#name = name;
    this.#store = store;
    this.disk.mkdir('data');
  }

  /** The rounds of one `holdfast checkpoint /data`. */
  async checkpoint(...more: readonly string[]): Promise<readonly (readonly string[])[]> {
    // What was written in the moment of a checkpoint would be read again by the next.
    this.clock.ms += 60_000;
    const store = new RoundsStore(this.#store);
    const said: string[] = [];
    const host = this.#host(store, said);
    const command = commands.find(({ name }) => name === 'checkpoint');
    const args = ['/data', '--store', 'memory', '--lineage', 'team/app/0', '--key-file', join(directory, 'key')];
    const lanes = ['--lanes', '0', '--state-dir', join(directory, this.#name), '--output', 'json'];
    const parsed = parseOptions('checkpoint', command?.options ?? [], [...args, ...lanes, ...more], {});
    expect(await checkpoint(host, parsed), said.join('')).toBe(0);
    return store.rounds;
  }

  #host(store: ObjectWriter, said: string[]): Host {
    const { clock } = this;
    const output = {
      isTerminal: false,
      columns: 80,
      colours: false,
      write: (text: string | Uint8Array) => void said.push(String(text)),
    };
    const unused = (): never => {
      throw new HoldfastError('E_INTERNAL', 'a checkpoint does not need this');
    };
    const counted = Object.assign(store, {
      requests: () => ({}),
      bytesRead: () => 0,
      [Symbol.asyncDispose]: async () => {},
    });
    return {
      env: {},
      workingDirectory: '/',
      hostName: this.#name,
      version: 'test',
      stdout: output,
      stderr: output,
      // Others have their turn while somebody waits.
      clock: {
        nowMs: () => clock.nowMs(),
        monotonicMs: () => clock.monotonicMs(),
        wait: () => new Promise((resolve) => void setImmediate(resolve)),
      },
      random: systemRandom,
      parallelism: 1,
      signal: new AbortController().signal,
      realPath: (path) => path,
      exists: () => true,
      openReader: unused,
      openWriter: async () => counted as Counted<ObjectWriter>,
      openInspector: unused,
      storePath: async () => undefined,
      openKey: (path) => openKeyFile(path, systemRandom),
      createKey: unused,
      fileTree: async () => ({
        tree: new MemoryFileTree(this.disk),
        name: 'memory',
        locks: undefined,
        sharedDescriptors: false,
      }),
      compressor: () => chooseCompressor('zlib'),
      lanes: () => ({ start: unused }),
      openHolder: (options) => openHolderDirectory({ ...options, random: systemRandom }),
      openCache: async () => this.#cache,
      openMarker: async (options) => new RestoreMarkerFile(options),
      temporaryCache: async () => undefined,
      bootId: () => '',
      openState: unused,
      freeBytes: unused,
      writeNote: unused,
      openGoneService: unused,
      openAnchorService: unused,
      beNice: unused,
      closeMemory: async () => false,
      hookCaller: unused,
      watch: unused,
      limits: unused,
      residentBytes: unused,
      outliveSignals: unused,
      volumeUsers: unused,
      prepareSocket: unused,
      readSettings: unused,
      readTlsFiles: unused,
      readAuthorities: unused,
      askAgent: unused,
      openKubeApi: unused,
      certificateTools: unused,
    };
  }
}

/** Kinds of requests of a round, each once: `get log`, `list key`. */
function kinds(round: readonly string[]): string {
  const seen = round.map((request) => {
    const [method = '', key = ''] = request.split(' ');
    const [, kind = '', , , below = ''] = key.split('/');
    return `${method} ${kind === 'l' ? below : kind}`;
  });
  return [...new Set(seen)].sort().join(', ');
}

const look = 'get key, get repo, list key, list log, unfinished pk';

async function newRepository(): Promise<MemoryStore> {
  const store = new MemoryStore();
  rmSync(join(directory, 'key'), { force: true });
  const keyRing = await createKeyFile(join(directory, 'key'), systemRandom);
  await createRepository(
    { keyRing, encryption: 'aes-256-gcm' },
    { store, clock: new ManualClock(), random: systemRandom },
  );
  return store;
}

test('the first checkpoint of a workload', async () => {
  const machine = new Machine('first', await newRepository());
  machine.disk.writeFile('data/a', 'small');
  expect((await machine.checkpoint()).map(kinds)).toEqual([
    look,
    'create key',
    'create log',
    // The second look at the log, which alone makes a claim certain.
    'list log',
    'create log',
  ]);
});

test('a checkpoint of the same holder, with something changed and with nothing', async () => {
  const machine = new Machine('same', await newRepository());
  machine.disk.writeFile('data/a', 'small');
  await machine.checkpoint();
  machine.disk.writeFile('data/b', 'small too');
  // The tree lies in the record that was read to claim.
  expect((await machine.checkpoint()).map(kinds)).toEqual([look, 'get log', 'create log']);
  expect((await machine.checkpoint()).map(kinds)).toEqual([look, 'get log', 'create log']);
});

test('a checkpoint of few changes among many files, whose paths are read together', async () => {
  const machine = new Machine('many', await newRepository());
  for (let i = 0; i < 100; i++) machine.disk.mkdir(`data/${i}`);
  for (let i = 0; i < 24_000; i++) machine.disk.writeFile(`data/${i % 100}/${i}`, `content ${i}`);
  await machine.checkpoint();
  // A walk gives what it finds in batches of 16,384 names: these lie in the first and in the last.
  for (const i of [0, 25, 50, 75, 99]) machine.disk.writeFile(`data/${i}/${i}`, `changed ${i}`);
  const rounds = await machine.checkpoint();
  expect(rounds.map(kinds)).toEqual([
    look,
    'get log',
    // The end of a pack with the root, the level below it, leaves.
    'range pk',
    'range pk',
    'range pk',
    'create log',
  ]);
});

test('a checkpoint after another holder has sealed the lineage', async () => {
  const store = await newRepository();
  const before = new Machine('before', store);
  before.disk.writeFile('data/a', 'small');
  await before.checkpoint('--seal');
  const after = new Machine('after', store);
  after.disk.writeFile('data/a', 'small');
  expect((await after.checkpoint()).map(kinds)).toEqual([
    look,
    // The seal, and what stands before it: the base.
    'get log',
    'get log',
    'create log',
    'list log',
    // Its tree: what is sealed is never inlined.
    'range pk',
    'create log',
  ]);
});
