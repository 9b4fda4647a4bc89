import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { RequestCounts } from './rows.ts';

/**
 * Stands before an S3 server of loopback, holds back each request for so long, and counts them by kind. It runs in a thread
 * of its own, so that sampling memory delays nothing.
 */
export class DelayingProxy implements AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  readonly #worker: Worker;

  private constructor(endpoint: string, worker: Worker) {
    this.endpoint = endpoint;
    this.#worker = worker;
  }

  static async start(port: number, delayMs: number): Promise<DelayingProxy> {
    const entry = new URL('./delaying-proxy-thread.ts', import.meta.url);
    const worker = new Worker(entry, { workerData: { port, delayMs } satisfies ProxyTask });
    const [ownPort] = await once(worker, 'message');
    return new DelayingProxy(`http://127.0.0.1:${ownPort}`, worker);
  }

  /** The requests since the last call. */
  async takeCounts(): Promise<RequestCounts> {
    const answer = once(this.#worker, 'message');
    this.#worker.postMessage('take');
    const [counts] = await answer;
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

/** What the thread is started with: the server's port, and how long each request waits. */
export interface ProxyTask {
  readonly port: number;
  readonly delayMs: number;
}
