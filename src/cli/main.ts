/**
 * The command line: builds the host from what the machine has, and runs the command. Parts are loaded when a command asks for
 * them (measured: `version` takes 0.04 s less and 16 MB).
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hash } from 'node:crypto';
import { availableParallelism, hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import type { FileTreeName } from '../edge/host/choose-file-tree.ts';
import { procVolumeUsers } from '../edge/host/proc-volume-users.ts';
import { systemClock } from '../edge/host/system-clock.ts';
import { systemRandom } from '../edge/host/system-random.ts';
import type { RetryNotice } from '../edge/store/s3/request-policy.ts';
import { toKeyPart } from '../engine/format/object-keys.ts';
import { errorCatalogue, HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Bandwidth, Host, Output } from './host.ts';
import { run } from './run.ts';
import { version } from './version.ts';
import { bufferBytesWithin } from './within-limits.ts';

const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => interrupt.abort(new HoldfastError('E_ABORTED', `interrupted by ${signal}`)));
}

function outputOf(stream: NodeJS.WriteStream, onLost: (error: NodeJS.ErrnoException) => void): Output {
  const writable = new Writable(stream, onLost);
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  const isTerminal = stream.isTTY === true;
  return {
    isTerminal,
    get columns() {
      // 0 where a terminal does not know its size.
      return stream.columns || 80;
    },
    colours:
      (NO_COLOR === undefined || NO_COLOR === '') &&
      ((isTerminal && TERM !== 'dumb') || (FORCE_COLOR !== undefined && FORCE_COLOR !== '0')),
    write: (text) => writable.write(text),
  };
}

/** One waiter for all that wait, and nothing more once the reader is gone: a stream that failed takes nothing and never drains. */
class Writable {
  readonly #stream: NodeJS.WriteStream;
  #draining: Promise<void> | undefined;
  #lost = false;

  /** `onLost` decides whether the process goes on without this stream. */
  constructor(stream: NodeJS.WriteStream, onLost: (error: NodeJS.ErrnoException) => void) {
    this.#stream = stream;
    stream.on('error', (error: NodeJS.ErrnoException) => {
      this.#lost = true;
      onLost(error);
    });
  }

  write(text: string | Uint8Array): Promise<void> | undefined {
    if (this.#lost || this.#stream.write(text)) return undefined;
    this.#draining ??= new Promise((resolve) => {
      const done = (): void => {
        this.#stream.off('drain', done).off('error', done);
        this.#draining = undefined;
        resolve();
      };
      this.#stream.once('drain', done).once('error', done);
    });
    return this.#draining;
  }
}

function storeModules(): Promise<
  [typeof import('../edge/store/open-store.ts'), typeof import('../edge/store/observed-store.ts')]
> {
  return Promise.all([import('../edge/store/open-store.ts'), import('../edge/store/observed-store.ts')]);
}

/** Undefined where nothing is bounded, and then nothing is loaded for it. */
async function pacesOf({
  uploadBytesPerSecond,
  downloadBytesPerSecond,
  lifted,
  onWaited,
}: Bandwidth = {}): Promise<
  (typeof import('../edge/store/limited-store.ts') & import('../edge/store/limited-store.ts').StorePaces) | undefined
> {
  if (uploadBytesPerSecond === undefined && downloadBytesPerSecond === undefined) return undefined;
  const [{ BytePace }, limited] = await Promise.all([
    import('../edge/store/byte-pace.ts'),
    import('../edge/store/limited-store.ts'),
  ]);
  const paceOf = (bytesPerSecond: number | undefined): InstanceType<typeof BytePace> | undefined =>
    bytesPerSecond === undefined ? undefined : new BytePace({ clock: systemClock, bytesPerSecond, lifted, onWaited });
  return { ...limited, upload: paceOf(uploadBytesPerSecond), download: paceOf(downloadBytesPerSecond) };
}

/** In a small container uploads get less memory, unless somebody says how much. */
async function storeEnvironment(): Promise<NodeJS.ProcessEnv> {
  const { cgroupLimits } = await import('../edge/host/cgroup-limits.ts');
  const bytes = bufferBytesWithin(cgroupLimits(), 32 * mebibyte);
  return { HOLDFAST_S3_UPLOAD_MIB: String(Math.max(16, Math.floor(bytes / mebibyte))), ...process.env };
}

const mebibyte = 1024 * 1024;
const waitingSaidMsMin = 2000;
const waitingAgainMs = 10_000;
let waitingSaidMs = Number.NEGATIVE_INFINITY;

/** A store that does not answer is waited for; whoever looks on is told, once in a while. */
function sayWaiting({ doing, reason, failingMs }: RetryNotice): void {
  const nowMs = systemClock.monotonicMs();
  if (failingMs < waitingSaidMsMin || nowMs - waitingSaidMs < waitingAgainMs) return;
  waitingSaidMs = nowMs;
  const clear = process.stderr.isTTY ? '\r\x1b[2K' : '';
  const seconds = Math.round(failingMs / 1000);
  process.stderr.write(`${clear}holdfast: waiting for the store (${reason} for ${seconds} s) while ${doing}\n`);
}

/** Symlinks resolved as far as the path exists, so that it has one name before and after it is made. */
function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(realPathOf(parent), basename(path));
  }
}

const unusedMsMax = 30 * 86_400_000;

/** Caches of directories that have not been captured or restored for a month. What cannot be tidied up waits for the next run. */
function removeUnused(parent: string, used: string): void {
  try {
    for (const name of readdirSync(parent)) {
      const path = join(parent, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (path === used || stat === undefined || Date.now() - stat.mtimeMs < unusedMsMax) continue;
      rmSync(path, { recursive: true, force: true });
    }
  } catch {
    // The checkpoint does not depend on it.
  }
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

function cacheModules(): Promise<
  [typeof import('../edge/host/directory-cache.ts'), typeof import('../edge/host/forgiving-cache.ts')]
> {
  return Promise.all([import('../edge/host/directory-cache.ts'), import('../edge/host/forgiving-cache.ts')]);
}

/** A cache that cannot even be made is done without. */
function orWithout<Cache>(onFailure: (error: HoldfastError) => void, make: () => Cache): Cache | undefined {
  try {
    return make();
  } catch (error) {
    if (!isHoldfastError(error, 'E_STATE_DIR')) throw error;
    onFailure(error);
    return undefined;
  }
}

const listings: ReadonlySet<string | undefined> = new Set(['ls', 'show', 'cat', 'diff']);

/**
 * A reader that went away, such as head, is not our failure: what only lists ends, and what does work goes on to its end, which its
 * exit code still tells. An output that cannot be written for another reason is said.
 */
function onOutputLost(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') {
    if (listings.has(process.argv[2])) process.exit(0);
    return;
  }
  process.stderr.write(`error E_LIMIT: the output cannot be written: ${error.code}\n  Give it a place with room.\n`);
  process.exit(errorCatalogue.E_LIMIT.exit);
}

const exactly = process.env['HOLDFAST_FILE_TREE'] as FileTreeName | undefined;
const host: Host = {
  env: process.env,
  workingDirectory: process.cwd(),
  hostName: hostname(),
  version,
  stdout: outputOf(process.stdout, onOutputLost),
  stderr: outputOf(process.stderr, () => undefined),
  clock: systemClock,
  random: systemRandom,
  parallelism: availableParallelism(),
  signal: interrupt.signal,
  realPath: (path) => realPathOf(resolve(path)),
  exists: existsSync,
  async openReader(address, { bandwidth } = {}) {
    const [{ openStore }, { ObservedReader, StoreTraffic }] = await storeModules();
    const store = await openStore(address, 'read', { onRetry: sayWaiting });
    const traffic = new StoreTraffic();
    const paces = await pacesOf(bandwidth);
    const limited = paces === undefined ? store : new paces.LimitedReader(store, paces);
    return Object.assign(new ObservedReader(limited, traffic), {
      requests: () => traffic.requests,
      bytesRead: () => traffic.bytesRead,
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    });
  },
  async openWriter(address, { create, onRetry = sayWaiting, bandwidth, ending }) {
    const [{ openStore }, { ObservedWriter, StoreTraffic }] = await storeModules();
    const store = await openStore(address, 'write', {
      env: await storeEnvironment(),
      create,
      onRetry,
      ...(ending === undefined ? {} : { ending }),
    });
    const traffic = new StoreTraffic();
    const paces = await pacesOf(bandwidth);
    const limited = paces === undefined ? store : new paces.LimitedWriter(store, paces);
    return Object.assign(new ObservedWriter(limited, traffic), {
      requests: () => traffic.requests,
      bytesRead: () => traffic.bytesRead,
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    });
  },
  openInspector: async (address) => (await storeModules())[0].openInspector(address, { onRetry: sayWaiting }),
  async storePath(address) {
    const parsed = (await import('../edge/store/open-store.ts')).parseStoreAddress(address);
    return parsed.kind === 'directory' ? parsed.path : undefined;
  },
  openKey: async (path) => (await import('../edge/host/file-key-ring.ts')).openKeyFile(path, systemRandom),
  createKey: async (path) => (await import('../edge/host/file-key-ring.ts')).createKeyFile(path, systemRandom),
  // Lanes get the environment of this moment, and choose the same without trying again.
  async fileTree() {
    const { chooseFileTree } = await import('../edge/host/choose-file-tree.ts');
    const choice = chooseFileTree(exactly === undefined ? {} : { only: exactly });
    process.env['HOLDFAST_FILE_TREE'] = choice.name;
    if (choice.name !== 'native') return { ...choice, locks: undefined };
    const { createNativeRangeLocks } = await import('../edge/host/native-range-locks.ts');
    return { ...choice, locks: createNativeRangeLocks() };
  },
  async compressor() {
    const { chooseCompressor } = await import('../edge/host/choose-compressor.ts');
    const compressor = await chooseCompressor(process.env['HOLDFAST_COMPRESSOR']);
    process.env['HOLDFAST_COMPRESSOR'] = compressor.name;
    return compressor;
  },
  lanes: () => ({
    async start(kind, lanes, settings, hooks) {
      const { createLaneStarter } = await import('../edge/host/worker-lanes.ts');
      const starter = createLaneStarter({
        entry: new URL(`../lane/main.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url),
        createPipeline: () => {
          throw new HoldfastError('E_INTERNAL', 'small runs make their own pipeline');
        },
      });
      return await starter.start(kind, lanes, settings, hooks);
    },
  }),
  async openHolder(options) {
    const { openHolderDirectory } = await import('../edge/host/holder-directory.ts');
    return await openHolderDirectory({ ...options, random: systemRandom });
  },
  async openCache({ stateDirectory, repository, lineage, volumes, own, onFailure }) {
    const [{ DirectoryCache }, { ForgivingCache }] = await cacheModules();
    // A cache of its own for each set of directories: a restore elsewhere does not spoil that of the next checkpoint.
    const parent = join(stateDirectory, 'caches', repository, toKeyPart(lineage));
    const places = volumes.map(({ name, path }) => `${name}\0${path}`).sort();
    const directory = join(parent, hash('sha256', places.join('\0\0')).slice(0, 16));
    return orWithout(onFailure, () => {
      const cache = new DirectoryCache(directory);
      if (own) {
        cache.sweep();
        removeUnused(parent, directory);
      }
      return new ForgivingCache(cache, onFailure);
    });
  },
  async openMarker(options) {
    const { RestoreMarkerFile } = await import('../edge/host/restore-marker-file.ts');
    return new RestoreMarkerFile(options);
  },
  async temporaryCache(stateDirectory, onFailure) {
    const [{ DirectoryCache }, { ForgivingCache }] = await cacheModules();
    return orWithout(onFailure, () => {
      const directory = makeTemporary(stateDirectory);
      return Object.assign(new ForgivingCache(new DirectoryCache(directory), onFailure), {
        [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
      });
    });
  },
  async openGoneService(options) {
    const { openGoneService } = await import('../edge/kube/gone-service.ts');
    return openGoneService({ ...options, random: systemRandom });
  },
  async openAnchorService(options) {
    const { openAnchorService } = await import('../edge/kube/anchor-service.ts');
    return openAnchorService({ ...options, random: systemRandom });
  },
  beNice: async () => (await import('../edge/host/be-nice.ts')).beNice(),
  closeMemory: async () => (await import('../edge/host/close-memory.ts')).closeMemory(),
  hookCaller: async () => (await import('../edge/host/http-hook-caller.ts')).httpHookCaller,
  watch: async (path, onSwitch) =>
    (await import('../edge/host/choose-change-source.ts')).chooseChangeSource(path, { onSwitch }),
  limits: async () => (await import('../edge/host/cgroup-limits.ts')).cgroupLimits(),
  residentBytes: () => process.memoryUsage.rss(),
  outliveSignals() {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);
  },
  volumeUsers: () => procVolumeUsers(),
  prepareSocket: async (path) => (await import('../edge/host/agent-socket.ts')).prepareSocket(path),
  askAgent: async (path, route, options) =>
    (await import('../edge/host/agent-socket.ts')).askAgent(path, route, options),
  async openState(stateDirectory) {
    const { PrivateDirectory } = await import('../edge/host/private-directory.ts');
    return new PrivateDirectory(stateDirectory);
  },
  freeBytes(path) {
    try {
      const { bavail, bsize } = statfsSync(path);
      return bavail * bsize;
    } catch {
      return undefined;
    }
  },
  writeNote(path, text) {
    try {
      writeFileSync(path, text);
      return true;
    } catch {
      return false;
    }
  },
  async readSettings(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      throw new HoldfastError('E_USAGE', `the settings cannot be read: ${(cause as Error).message}`, {
        cause,
        remedy: 'Name the file with --settings FILE; this user has to be able to read it.',
      });
    }
  },
  readTlsFiles: async (paths) => (await import('../edge/host/tls-files.ts')).readTlsFiles(paths),
  async openKubeApi() {
    const { InClusterApi, inClusterPlaces } = await import('../edge/kube/in-cluster-api.ts');
    return new InClusterApi(inClusterPlaces(process.env));
  },
  async certificateTools() {
    const [make, inspect] = await Promise.all([
      import('../edge/host/make-certificate.ts'),
      import('../edge/host/inspect-certificate.ts'),
    ]);
    return { ...make, ...inspect };
  },
  readAuthorities: async (path) => (await import('../edge/host/tls-files.ts')).readAuthorities(path),
  bootId() {
    try {
      return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    } catch {
      return '';
    }
  },
};

// Whatever got past everything else: a defect, said as one.
process.on('uncaughtException', (error) => {
  process.stderr.write(`error E_INTERNAL: ${error.stack ?? error.message}\n`);
  process.exit(70);
});

process.exitCode = await run(process.argv.slice(2), host);
// An agent that has sealed does not wait for threads that are deep in a file.
if (process.argv[2] === 'agent') setTimeout(() => process.exit(), 200).unref();
