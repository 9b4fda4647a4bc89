/** The init container over a store, disks and a private directory in memory: everything it asks of the world can be met, or end it. */
import { type DataPolicies, defaultPolicies } from '../../../src/agent/rehydrate/data-policy.ts';
import type {
  ContainerPorts,
  ContainerSettings,
  RehydrateEvent,
} from '../../../src/agent/rehydrate/rehydrate-ports.ts';
import { runRehydrate } from '../../../src/agent/rehydrate/run-rehydrate.ts';
import type { RestoreReceipt } from '../../../src/contract/receipt.ts';
import { parseMarker, type RehydrateMarker } from '../../../src/contract/state-directory.ts';
import { chooseCompressor } from '../../../src/edge/host/choose-compressor.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { openRepository } from '../../../src/engine/lineage/repository.ts';
import { type HolderId, toHolderId, toLineageName, toVolumeName } from '../../../src/engine/model/ids.ts';
import type { Anchors } from '../../../src/engine/ports/anchors.ts';
import type { HolderStore } from '../../../src/engine/ports/holder-store.ts';
import type { ObjectWriter } from '../../../src/engine/ports/object-store.ts';
import { ManualClock, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { MemoryMarker, noLanes } from '../../support/restore-fixture.ts';
import { MemoryHolder } from '../../engine/lineage/fixture.ts';

/** Time passes at once here, so that to wait for ever would take for ever. */
const bounded: DataPolicies = {
  ...defaultPolicies,
  missing: { act: 'block', deadlineMs: 60_000, text: 'block:60s' },
};

const compressor = await chooseCompressor('zlib');

export class Killed extends Error {}

/** One use of a port. */
export interface PortCall {
  readonly what: string;
  readonly when: 'before' | 'after';
}

/** Time passes when nothing else is left to do: what is waited for beside the wait comes first, and then ends it. */
class BoundedClock extends ManualClock {
  #waits = 0;

  override async wait(ms: number, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (++this.#waits > 200) throw new Error('waits for ever');
    for (let turn = 0; turn < 20 && signal?.aborted !== true; turn++) await new Promise((next) => setImmediate(next));
    if (signal?.aborted === true) throw new HoldfastError('E_ABORTED', 'a wait was ended by its signal');
    this.ms += ms;
  }
}

export class Container {
  readonly uid: HolderId;
  readonly disk: MemoryFileSystem;
  readonly clock: ManualClock = new BoundedClock();
  readonly events: RehydrateEvent[] = [];
  readonly receipts: RestoreReceipt[] = [];
  readonly gone: Set<string> = new Set();
  anchors: Anchors | undefined;
  /** Files of the private directory. */
  readonly state: Map<string, string> = new Map();
  /** Told of each use of a port; what it throws ends the process. */
  onCall: ((call: PortCall) => void | Promise<void>) | undefined;
  /** The same of the file system. */
  onFileCall: ((operation: string) => void) | undefined;
  /** What is thrown is an error of the port, not the end of the process. */
  survives = false;
  settings: Partial<ContainerSettings> = {};
  boot = 'boot-1';
  readonly #store: ObjectWriter;
  readonly #holders = new Map<string, MemoryHolder>();
  readonly #markers = new Map<string, MemoryMarker>();
  #runs = 0;
  #dead = false;

  constructor(store: ObjectWriter, uid: string, options: { readonly memory?: boolean } = {}) {
    this.#store = store;
    this.uid = toHolderId(uid);
    this.disk = new MemoryFileSystem(options.memory === true ? { type: 'tmpfs' } : {});
    this.disk.mkdir('data');
  }

  get marker(): RehydrateMarker | undefined {
    const text = this.state.get('rehydrate.json');
    return text === undefined ? undefined : parseMarker(text);
  }

  /** Path → content of the volume. */
  get content(): Readonly<Record<string, string>> {
    const found: Record<string, string> = {};
    for (const name of this.#names()) {
      found[name] = new TextDecoder().decode(this.disk.readFile(`data/${name}`));
    }
    return found;
  }

  #names(): readonly string[] {
    return [...this.disk.get('data').children.keys()];
  }

  /** A reboot of its node: what is in memory is gone. */
  reboot(): void {
    this.boot = `${this.boot}+`;
    if (this.disk.info.type === 'tmpfs') for (const name of this.#names()) this.disk.remove(`data/${name}`);
  }

  async run(): Promise<RestoreReceipt> {
    this.#dead = false;
    const lineage = toLineageName('team/app/0');
    return await runRehydrate(
      this.#ports(),
      {
        lineage,
        slots: undefined,
        store: 'memory:',
        volumes: [{ name: toVolumeName('data'), path: 'data', bytesMax: undefined }],
        podUid: this.uid,
        podName: `app-${this.uid}`,
        expect: undefined,
        restoreAt: undefined,
        policies: bounded,
        handoffMsMax: 0,
        claimMsMax: 10_000,
        first: [],
        laneCount: 0,
        inFlightBytes: 32 * 1024 * 1024,
        ...this.settings,
      },
      {
        signal: new AbortController().signal,
        onReceipt: async (receipt) => {
          this.receipts.push(receipt);
        },
      },
    );
  }

  #ports(): ContainerPorts {
    const random = seededRandom(`${this.uid} ${this.#runs++}`);
    const { clock } = this;
    const files = new MemoryFileTree(this.disk);
    files.beforeCall = ({ operation }) => {
      if (operation === 'close') return;
      if (this.#dead) throw new Killed();
      this.onFileCall?.(operation);
    };
    return {
      files,
      state: {
        read: async (name) => this.state.get(name),
        replace: (name, text) => this.#use(`state ${name}`, async () => void this.state.set(name, text)),
      },
      openStore: async () => Object.assign(this.#observed(), { [Symbol.asyncDispose]: async () => undefined }),
      openRepository: (store, signal) =>
        openRepository(store, { keyRing: undefined, encryption: undefined }, { signal }),
      openHolder: async (_, name) => {
        const holder = this.#holders.get(name) ?? new MemoryHolder(this.uid);
        this.#holders.set(name, holder);
        const observed: HolderStore = {
          load: () => holder.load(),
          save: (state) => this.#use('holder', () => holder.save(state)),
        };
        return Object.assign(observed, { [Symbol.asyncDispose]: async () => undefined });
      },
      openMarker: async (_, name, path) => {
        const marker = this.#markers.get(`${name} ${path}`) ?? new MemoryMarker();
        this.#markers.set(`${name} ${path}`, marker);
        return { load: () => marker.load(), save: (mark) => this.#use('mark', () => marker.save(mark)) };
      },
      openCache: async () => undefined,
      compressor,
      clock,
      random,
      lanes: noLanes,
      liveness: { isGone: async (holder) => (this.gone.has(holder) ? 'gone' : 'unknown') },
      anchors: this.anchors,
      bootId: this.boot,
      freeBytes: () => undefined,
      onEvent: (event) => this.events.push(event),
      onProgress: () => undefined,
    };
  }

  async #use<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
    await this.#tell({ what, when: 'before' });
    const result = await work();
    await this.#tell({ what, when: 'after' });
    return result;
  }

  /** Nothing is done by a process that has ended. */
  async #tell(call: PortCall): Promise<void> {
    if (this.#dead) throw new Killed();
    try {
      await this.onCall?.(call);
    } catch (error) {
      this.#dead = !this.survives;
      throw error;
    }
  }

  #observed(): ObjectWriter {
    const store = this.#store;
    return {
      get: (key, options) => this.#use(`get ${key}`, () => store.get(key, options)),
      getRange: (key, start, length, options) =>
        this.#use(`range ${key}`, () => store.getRange(key, start, length, options)),
      stat: (key, options) => this.#use(`stat ${key}`, () => store.stat(key, options)),
      list: (prefix, options) => this.#use(`list ${prefix}`, () => store.list(prefix, options)),
      create: (key, bytes, options) => this.#use(`create ${key}`, () => store.create(key, bytes, options)),
      beginUpload: (key, options) => store.beginUpload(key, options),
      unfinished: (prefix, options) => store.unfinished(prefix, options),
    };
  }
}
