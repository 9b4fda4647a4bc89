/** The command line: builds the host from what the machine has, and runs the command. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { DirectoryCache } from '../edge/host/directory-cache.ts';
import { chooseCompressor } from '../edge/host/choose-compressor.ts';
import { chooseFileTree, type FileTreeName } from '../edge/host/choose-file-tree.ts';
import { createKeyFile, openKeyFile } from '../edge/host/file-key-ring.ts';
import { systemClock } from '../edge/host/system-clock.ts';
import { systemRandom } from '../edge/host/system-random.ts';
import { createLaneStarter } from '../edge/host/worker-lanes.ts';
import { ObservedReader, ObservedWriter, StoreTraffic } from '../edge/store/observed-store.ts';
import { openStore, parseStoreAddress } from '../edge/store/open-store.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Host, Output } from './host.ts';
import { run } from './run.ts';
import { version } from './version.ts';

const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => interrupt.abort(new HoldfastError('E_ABORTED', `interrupted by ${signal}`)));
}

function outputOf(stream: NodeJS.WriteStream): Output {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  const isTerminal = stream.isTTY === true;
  return {
    isTerminal,
    get columns() {
      return stream.columns ?? 80;
    },
    colours:
      (NO_COLOR === undefined || NO_COLOR === '') &&
      ((isTerminal && TERM !== 'dumb') || (FORCE_COLOR !== undefined && FORCE_COLOR !== '0')),
    write: (text) =>
      stream.write(text) ? undefined : new Promise<void>((resolve) => void stream.once('drain', resolve)),
  };
}

/** A directory of this run; what runs left that were killed is removed. */
function makeTemporary(stateDirectory: string): string {
  const parent = join(stateDirectory, 'tmp');
  try {
    mkdirSync(parent, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(parent)) {
      if (!isRunning(Number(/^\d+/.exec(name)?.[0] ?? 0))) rmSync(join(parent, name), { recursive: true, force: true });
    }
    return mkdtempSync(join(parent, `${process.pid}-`));
  } catch (cause) {
    throw new HoldfastError('E_STATE_DIR', `cannot make a directory in ${parent}`, { cause });
  }
}

function isRunning(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

// A reader that went away, such as head, is not our failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

const exactly = process.env['HOLDFAST_FILE_TREE'] as FileTreeName | undefined;
const host: Host = {
  env: process.env,
  workingDirectory: process.cwd(),
  hostName: hostname(),
  version,
  stdout: outputOf(process.stdout),
  stderr: outputOf(process.stderr),
  clock: systemClock,
  random: systemRandom,
  parallelism: availableParallelism(),
  signal: interrupt.signal,
  realPath(path) {
    try {
      return realpathSync(path);
    } catch {
      return resolve(path);
    }
  },
  exists: existsSync,
  async openReader(address) {
    const store = await openStore(address, 'read');
    const traffic = new StoreTraffic();
    return Object.assign(new ObservedReader(store, traffic), {
      requests: () => traffic.requests,
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    });
  },
  async openWriter(address, { create }) {
    const store = await openStore(address, 'write', { create });
    const traffic = new StoreTraffic();
    return Object.assign(new ObservedWriter(store, traffic), {
      requests: () => traffic.requests,
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    });
  },
  storePath: (address) => parseStoreAddress(address).path,
  openKey: (path) => openKeyFile(path, systemRandom),
  createKey: (path) => createKeyFile(path, systemRandom),
  fileTree: () => chooseFileTree(exactly === undefined ? {} : { only: exactly }),
  compressor: () => chooseCompressor(process.env['HOLDFAST_COMPRESSOR']),
  lanes: () =>
    createLaneStarter({
      entry: new URL(`../lane/main.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url),
      createPipeline: () => {
        throw new HoldfastError('E_INTERNAL', 'small runs make their own pipeline');
      },
    }),
  async openHolder(options) {
    const { openHolderDirectory } = await import('../edge/host/holder-directory.ts');
    return await openHolderDirectory({ ...options, random: systemRandom });
  },
  openCache(directory) {
    const cache = new DirectoryCache(directory);
    cache.sweep();
    return cache;
  },
  temporaryCache(stateDirectory) {
    const directory = makeTemporary(stateDirectory);
    return Object.assign(new DirectoryCache(directory), {
      [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
    });
  },
  bootId() {
    try {
      return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    } catch {
      return '';
    }
  },
};

process.exitCode = await run(process.argv.slice(2), host);
