import { join } from 'node:path';
import { type S3Server, startServer } from '../test/servers/s3-server.ts';
import { findServerProgram, serverPrograms } from '../test/servers/server-programs.ts';
import type { Bucket } from './contenders.ts';
import { NotAvailable } from './debian-program.ts';
import { DelayingProxy } from './delaying-proxy.ts';
import { processCpuSeconds } from './measure.ts';
import { delayMs, type Network, type RequestCounts } from './rows.ts';

/** A MinIO on loopback with an empty data directory and credentials of its own, and the proxy that delays each request. */
export class S3Site implements AsyncDisposable {
  readonly version: string = `MinIO ${serverPrograms.minio.version.replace(/^v0\.0\.0-/, '')}`;
  readonly #server: S3Server;
  readonly #proxy: DelayingProxy;

  private constructor(server: S3Server, proxy: DelayingProxy) {
    this.#server = server;
    this.#proxy = proxy;
  }

  /** @param parent holds the data directory. @throws NotAvailable where MinIO is not installed */
  static async start(parent: string): Promise<S3Site> {
    if (findServerProgram('minio') === undefined)
      throw new NotAvailable('MinIO is not installed: npm run servers minio');
    const server = await startServer('minio', parent);
    return new S3Site(server, await DelayingProxy.start(server.port, delayMs));
  }

  /** @param name of the bucket, which need not exist */
  bucket(name: string, network: Network): Bucket {
    const { accessKeyId, secretAccessKey, directory } = this.#server;
    const { endpoint } = network === 'delayed' ? this.#proxy : this.#server;
    return { name, endpoint, accessKeyId, secretAccessKey, directory: join(directory, name) };
  }

  /** The requests through the proxy since the last call. */
  takeCounts(): Promise<RequestCounts> {
    return this.#proxy.takeCounts();
  }

  /** CPU time so far of the server and of this process, in which the proxy runs. */
  cpuSeconds(): number {
    const { pid } = this.#server;
    const { user, system } = process.cpuUsage();
    return (pid === undefined ? 0 : processCpuSeconds(pid)) + (user + system) / 1e6;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy[Symbol.asyncDispose]();
    await this.#server[Symbol.asyncDispose]();
  }
}
