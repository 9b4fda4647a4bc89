/** Watches a volume by inotify, in a thread of its own. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import {
  type ChangeCount,
  ChangedNames,
  changedNamesMax,
  ChangeLog,
  type Changes,
} from '../../engine/model/changes.ts';
import type { ChangeSource } from '../../engine/ports/change-source.ts';
import { WatchError } from './inotify-tree.ts';
import type { InotifyOrder, InotifyReply, InotifyThreadData, TakenNames } from './inotify-protocol.ts';
import { loadLinuxCalls } from './linux-calls.ts';

const closeOnExec = 0o2000000;
const nonBlocking = 0o4000;
const ring = new Uint8Array(new BigUint64Array([1n]).buffer);

export interface InotifyOptions {
  /** More changed names than this between two takings are everything. */
  readonly namesMax?: number;
}

export class InotifySource implements ChangeSource {
  readonly kind = 'inotify';
  readonly prompt = true;
  #why: string | undefined;
  readonly #worker: Worker;
  readonly #wake: number;
  readonly #root: number;
  readonly #ended: Int32Array<SharedArrayBuffer>;
  readonly #waiting = new Map<number, (reply: InotifyReply | undefined) => void>();
  /** What was put back. */
  readonly #returned: ChangeLog;
  readonly #namesMax: number;
  #started: ((reply: InotifyReply | undefined) => void) | undefined;
  #nextId = 1;
  #gone = false;
  readonly #exited: Promise<void>;
  readonly #onProcessExit = (): void => this.#end();

  private constructor(path: string, wake: number, namesMax: number) {
    this.#wake = wake;
    this.#namesMax = namesMax;
    this.#returned = new ChangeLog({ namesMax });
    this.#root = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
    this.#ended = new Int32Array(new SharedArrayBuffer(4));
    const data: InotifyThreadData = { rootDescriptor: this.#root, wake, namesMax, ended: this.#ended.buffer };
    const entry = new URL(`./inotify-thread.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);
    this.#worker = new Worker(entry, { workerData: data });
    this.#worker.on('message', (reply: InotifyReply) => this.#hear(reply));
    this.#worker.on('error', (error) => this.#lose(String(error)));
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        this.#lose('the watching thread ended');
        closeSync(this.#wake);
        closeSync(this.#root);
        resolve();
      });
    });
    // A thread that sleeps in the kernel would keep the process from ending.
    process.on('exit', this.#onProcessExit);
    this.#worker.unref();
  }

  /** Resolves when all directories are watched. Throws WatchError when they cannot be: ENOSPC when the user has no watches left. */
  static async start(path: string, { namesMax = changedNamesMax }: InotifyOptions = {}): Promise<InotifySource> {
    const loaded = loadLinuxCalls();
    if (loaded.calls === undefined) throw new WatchError('ENOSYS', loaded.why);
    const { call2, numbers } = loaded.calls;
    const wake = call2(numbers.eventfd2, 0, closeOnExec | nonBlocking);
    if (wake < 0) throw new WatchError('EMFILE', 'make an eventfd');
    const source = new InotifySource(path, wake, namesMax);
    source.#worker.ref();
    const reply = await new Promise<InotifyReply | undefined>((resolve) => {
      source.#started = resolve;
    });
    source.#worker.unref();
    if (reply?.type === 'watching') return source;
    await source.close();
    if (reply?.type === 'failed') throw new WatchError(reply.errno, reply.why);
    throw new WatchError('EIO', source.#why ?? 'the watching thread ended');
  }

  get why(): string | undefined {
    return this.#why;
  }

  async count(): Promise<ChangeCount> {
    const returned = this.#returned.count();
    const reply = await this.#ask('count');
    if (reply?.type !== 'count') return { kind: 'everything', reason: 'lost' };
    if (returned.kind === 'everything') return returned;
    // A name that was put back and changed again counts twice.
    return reply.count.kind === 'everything'
      ? reply.count
      : { kind: 'names', count: reply.count.count + returned.count };
  }

  async take(): Promise<Changes> {
    const reply = await this.#ask('take');
    const taken: Changes =
      reply?.type === 'taken' ? changesOf(reply.taken, this.#namesMax) : { kind: 'everything', reason: 'lost' };
    const { kind } = this.#returned.count();
    if (kind === 'names' && (this.#returned.count() as { count: number }).count === 0) return taken;
    this.#returned.putBack(taken);
    return this.#returned.take();
  }

  putBack(changes: Changes): void {
    this.#returned.putBack(changes);
  }

  scanned(): void {}

  async close(): Promise<void> {
    process.off('exit', this.#onProcessExit);
    // Else a process with nothing else to do would end before the thread has.
    if (!this.#gone) this.#worker.ref();
    this.#end();
    await this.#exited;
  }

  #end(): void {
    if (this.#gone) return;
    Atomics.store(this.#ended, 0, 1);
    this.#ring();
  }

  #ring(): void {
    writeSync(this.#wake, ring);
  }

  #ask(kind: InotifyOrder['kind']): Promise<InotifyReply | undefined> {
    if (this.#gone) return Promise.resolve(undefined);
    const id = this.#nextId++;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#worker.ref();
      this.#worker.postMessage({ id, kind } satisfies InotifyOrder);
      this.#ring();
    });
  }

  #hear(reply: InotifyReply): void {
    if (reply.type === 'watching' || (reply.type === 'failed' && this.#started !== undefined)) {
      this.#started?.(reply);
      this.#started = undefined;
    } else if (reply.type === 'failed') {
      this.#lose(reply.why);
    } else {
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
      if (this.#waiting.size === 0) this.#worker.unref();
    }
  }

  #lose(why: string): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#why = why;
    this.#started?.(undefined);
    for (const resolve of this.#waiting.values()) resolve(undefined);
    this.#waiting.clear();
  }
}

function changesOf(taken: TakenNames, namesMax: number): Changes {
  if (taken.kind === 'everything') return taken;
  const names = new ChangedNames(namesMax);
  for (const [key, whole] of taken.names) {
    if (!names.add(key, whole)) return { kind: 'everything', reason: 'burst' };
  }
  return { kind: 'names', names };
}
