/**
 * The private directory of a holder on one lineage: `<state>/holders/<repository>/<lineage>/` with
 *
 *   holder.json   identity, claims and last attempts; replaced whole, durable before each request to the store
 *   lock          held while a process of this holder works on the lineage
 *   owner         which process that is, for people
 *
 * Two processes of one holder on one lineage would each take the other's records for what a killed predecessor left behind.
 * The lock is one of the kernel (SQLite's, on a file that stays empty): it ends with its process, however that ends, so
 * nobody ever has to decide whether a lock is stale, and it holds between containers that do not see each other's processes.
 */
import { mkdir, open, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { toKeyPart } from '../../engine/format/object-keys.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import {
  type HolderId,
  type LineageName,
  parseRecordId,
  type RecordId,
  recordIdText,
  type Slot,
  toHolderId,
  toSlot,
} from '../../engine/model/ids.ts';
import { toHex } from '../../engine/model/bytes.ts';
import type { HolderState, HolderStore } from '../../engine/ports/holder-store.ts';
import type { RandomSource } from '../../engine/ports/random.ts';

export interface HolderDirectoryOptions {
  /** The user's state directory; made when it is missing. */
  readonly stateDirectory: string;
  /** Id of the repository. */
  readonly repository: string;
  readonly lineage: LineageName;
  /** A pod's UID; outside a pod a random identity is made once and kept. */
  readonly holder?: HolderId;
  readonly random: RandomSource;
}

const stateVersion = 1;

/** E_STATE_DIR when the directory cannot be used, or another process of this holder is at work there. */
export async function openHolderDirectory(options: HolderDirectoryOptions): Promise<HolderDirectory> {
  const path = join(options.stateDirectory, 'holders', options.repository, toKeyPart(options.lineage));
  try {
    await makeDurable(path);
  } catch (cause) {
    throw new HoldfastError('E_STATE_DIR', `cannot make ${path}`, { cause });
  }
  const lock = await takeLock(path, options.lineage);
  return new HolderDirectory(path, lock, options);
}

/** A holder's state while its lock is held; `await using` gives it back. */
export class HolderDirectory implements HolderStore, AsyncDisposable {
  readonly path: string;
  readonly #lock: DatabaseSync;
  readonly #holder: HolderId | undefined;
  readonly #random: RandomSource;

  constructor(path: string, lock: DatabaseSync, options: Pick<HolderDirectoryOptions, 'holder' | 'random'>) {
    this.path = path;
    this.#lock = lock;
    this.#holder = options.holder;
    this.#random = options.random;
  }

  async load(): Promise<HolderState> {
    const file = join(this.path, 'holder.json');
    let text: string | undefined;
    try {
      text = await readFile(file, 'utf8');
    } catch (cause) {
      if (!isErrno(cause, 'ENOENT')) throw new HoldfastError('E_STATE_DIR', `cannot read ${file}`, { cause });
    }
    if (text === undefined) {
      const state = newState(this.#holder ?? toHolderId(toHex(this.#random.bytes(16))));
      await this.save(state);
      return state;
    }
    const state = parseState(text, file);
    // A pod's directory that outlived its pod says nothing about the new one.
    return this.#holder === undefined || this.#holder === state.holder ? state : newState(this.#holder);
  }

  async save(state: HolderState): Promise<void> {
    const file = join(this.path, 'holder.json');
    const unfinished = `${file}.new`;
    try {
      const handle = await open(unfinished, 'w', 0o600);
      try {
        await handle.writeFile(printState(state));
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(unfinished, file);
      await syncDirectory(this.path);
    } catch (cause) {
      throw new HoldfastError('E_STATE_DIR', `cannot write ${file}`, { cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#lock.isOpen) this.#lock.close();
  }
}

async function takeLock(path: string, lineage: LineageName): Promise<DatabaseSync> {
  const file = join(path, 'lock');
  let lock: DatabaseSync | undefined;
  try {
    lock = new DatabaseSync(file, { timeout: 0 });
    // Nothing is ever written: the transaction exists for its lock.
    lock.exec('PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE');
    await writeFile(join(path, 'owner'), `${process.pid}\n`, { mode: 0o600 });
    return lock;
  } catch (cause) {
    if (lock?.isOpen) lock.close();
    if (!isBusy(cause)) throw new HoldfastError('E_STATE_DIR', `cannot lock ${file}`, { cause });
    const owner = await readFile(join(path, 'owner'), 'utf8').catch(() => '');
    throw new HoldfastError(
      'E_STATE_DIR',
      `another process${owner && ` (${owner.trim()})`} works on ${lineage} from ${path}`,
      {
        cause,
        remedy: 'Wait until it has ended, or end it; the lock ends with its process, there is nothing to remove.',
      },
    );
  }
}

const sqliteBusy = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy;
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** Makes a directory and makes its name durable, and those of all parents that were missing. */
async function makeDurable(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made));
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function newState(holder: HolderId): HolderState {
  return { holder, claims: [], last: undefined, includes: toSlot(0) };
}

function printState(state: HolderState): string {
  const plain = {
    version: stateVersion,
    holder: state.holder,
    claims: state.claims.map(({ slot, id }) => ({ slot, id: recordIdText(id) })),
    last: state.last === undefined ? null : { slot: state.last.slot, ids: state.last.ids.map(recordIdText) },
    includes: state.includes,
  };
  return `${JSON.stringify(plain, undefined, 2)}\n`;
}

function parseState(text: string, file: string): HolderState {
  try {
    const plain = asObject(JSON.parse(text));
    if (typeof plain['version'] === 'number' && plain['version'] > stateVersion) {
      throw new HoldfastError('E_FORMAT_NEWER', `${file} was written by a newer Holdfast`);
    }
    const last = plain['last'] === null ? undefined : asObject(plain['last']);
    return {
      holder: toHolderId(asText(plain['holder'])),
      claims: asList(plain['claims']).map((claim) => ({
        slot: asSlot(asObject(claim)['slot']),
        id: asRecordId(asObject(claim)['id']),
      })),
      last: last && { slot: asSlot(last['slot']), ids: asList(last['ids']).map(asRecordId) },
      includes: asSlot(plain['includes']),
    };
  } catch (cause) {
    if (cause instanceof HoldfastError && cause.code === 'E_FORMAT_NEWER') throw cause;
    throw new HoldfastError('E_STATE_DIR', `${file} is not what Holdfast wrote`, {
      cause,
      remedy: `Move ${file} away to begin as a new holder; a lineage that was not sealed then needs --take.`,
    });
  }
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) throw new TypeError('not an object');
  return value as Readonly<Record<string, unknown>>;
}

function asList(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new TypeError('not a list');
  return value;
}

function asText(value: unknown): string {
  if (typeof value !== 'string') throw new TypeError('not a text');
  return value;
}

function asSlot(value: unknown): Slot {
  if (typeof value !== 'number') throw new TypeError('not a number');
  return toSlot(value);
}

function asRecordId(value: unknown): RecordId {
  const id = parseRecordId(asText(value));
  if (id === undefined) throw new TypeError('not a record id');
  return id;
}
