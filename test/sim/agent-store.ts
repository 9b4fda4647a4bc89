/** The store as one process sees it: its requests are noted, may get lost on the way, and may outlive it. */
import { logPrefix, parseLogKey } from '../../src/engine/format/object-keys.ts';
import type { LogRecord } from '../../src/engine/format/record.ts';
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { recordIdText } from '../../src/engine/model/ids.ts';
import type {
  CreateOutcome,
  ListOptions,
  ObjectInfo,
  ObjectUpload,
  ObjectWriter,
  UnfinishedUpload,
  RangeOptions,
  WaitOptions,
} from '../../src/engine/ports/object-store.ts';
import { type FaultRates, Faults, FaultyWriter } from '../support/faulty-store.ts';
import type { Chance } from './chance.ts';
import type { Network } from './network.ts';
import type { Process } from './process.ts';
import type { World } from './world.ts';

export class AgentStore implements ObjectWriter {
  readonly #store: ObjectWriter;
  readonly #world: World;
  readonly #process: Process;
  /** Passes over the volume that the running capture has begun. */
  passes = 0;
  /** A commit is under way: what stands at the slot decides whether the process is fenced. */
  committing = false;
  /** Slot of the claim that was just created. */
  #claimed: number | undefined;

  constructor(world: World, process: Process, store: ObjectWriter) {
    this.#world = world;
    this.#process = process;
    this.#store = store;
  }

  async get(key: string, options: WaitOptions & { readonly bytesMax: number }): Promise<Uint8Array | undefined> {
    const bytes = await this.#store.get(key, options);
    if (bytes === undefined || !this.#world.broken.has('fencing') || !this.committing) return bytes;
    return this.#recordIn(key, bytes)?.header.kind === 'CLAIM' ? utf8Bytes('junk') : bytes;
  }

  getRange(key: string, start: number, length: number, options?: RangeOptions): Promise<Uint8Array> {
    return this.#store.getRange(key, start, length, options);
  }

  stat(key: string, options?: WaitOptions): Promise<ObjectInfo | undefined> {
    return this.#store.stat(key, options);
  }

  async list(prefix: string, options?: ListOptions): Promise<readonly ObjectInfo[]> {
    const listed = await this.#store.list(prefix, options);
    const claimed = this.#claimed;
    this.#claimed = undefined;
    if (claimed === undefined || prefix !== logPrefix(this.#world.lineage)) return listed;
    return listed.filter(({ key }) => (parseLogKey(this.#world.lineage, key) ?? 0) <= claimed);
  }

  async create(key: string, bytes: Uint8Array, options?: WaitOptions): Promise<CreateOutcome> {
    const record = this.#recordIn(key, bytes);
    if (record !== undefined) {
      const { machine, name } = this.#process;
      this.#world.sent.set(recordIdText(record.header.id), {
        by: name,
        versions: [...machine.versions],
        passes: this.passes,
      });
    }
    const outcome = await this.#store.create(key, bytes, options);
    if (record?.header.kind === 'CLAIM' && this.#world.broken.has('second-list')) this.#claimed = record.header.slot;
    return outcome;
  }

  beginUpload(key: string, options?: WaitOptions): Promise<ObjectUpload> {
    return this.#store.beginUpload(key, options);
  }

  unfinished(prefix: string, options?: WaitOptions): Promise<readonly UnfinishedUpload[]> {
    return this.#store.unfinished(prefix, options);
  }

  #recordIn(key: string, bytes: Uint8Array): LogRecord | undefined {
    const slot = parseLogKey(this.#world.lineage, key);
    return slot === undefined ? undefined : this.#world.recordIn(slot, bytes);
  }
}

/** A store whose requests get lost, doubled and late, at the port: what any store may do. */
export function openFaultyStore(
  world: World,
  process: Process,
  network: Network,
  chance: Chance,
  rates: FaultRates,
): ObjectWriter {
  const faults = new Faults({
    random: chance.of('faults'),
    rates,
    scheduler: {
      wait: (ms) => process.point('slow store', ms),
      later: (effect) => void network.underWay.push(effect),
    },
    hook: async ({ phase, operation, key, fault, effect, outcome }) => {
      const what = `${phase} ${operation} ${shortKey(world, key)}`;
      const how = [fault, phase === 'after' ? effect : undefined, outcome].filter((one) => one !== undefined);
      if (fault !== undefined && phase === 'before') world.count(fault);
      await process.point([what, ...how].join(' '));
    },
  });
  return new FaultyWriter(world, faults);
}

function shortKey(world: World, key: string): string {
  const slot = parseLogKey(world.lineage, key);
  return slot === undefined ? (key.split('/').slice(-2).join('/') ?? key) : `log ${slot}`;
}
