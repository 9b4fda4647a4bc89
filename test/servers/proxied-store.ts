import { openS3Writer } from '../../src/edge/store/s3/open-s3-store.ts';
import type { RetryNotice } from '../../src/edge/store/s3/request-policy.ts';
import type { S3Parts } from '../../src/edge/store/s3/s3-connection.ts';
import type { S3Settings } from '../../src/edge/store/s3/s3-settings.ts';
import type { S3Writer } from '../../src/edge/store/s3/s3-store.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import type { S3Server } from './s3-server.ts';
import { freshBucket, openS3, type OpenedS3, partsFor, settingsFor } from './s3-store-of.ts';

/** An empty store on a server, through a proxy that breaks requests as its rule says, and past it. */
export class ProxiedStore implements AsyncDisposable {
  readonly proxy: FaultProxy;
  /** Of the way through the proxy. */
  readonly settings: S3Settings;
  /** Past the proxy. */
  readonly direct: S3Writer;
  /** What writers of `open` have said of attempts that failed. */
  readonly notices: RetryNotice[] = [];
  readonly #server: S3Server;
  readonly #opened: OpenedS3;

  private constructor(server: S3Server, proxy: FaultProxy, settings: S3Settings, opened: OpenedS3) {
    this.#server = server;
    this.proxy = proxy;
    this.settings = settings;
    this.#opened = opened;
    this.direct = opened.writer;
  }

  /** `query` as in an address, without the question mark. */
  static async make(server: S3Server, query: string): Promise<ProxiedStore> {
    const proxy = await FaultProxy.start(server.port);
    const settings = settingsFor(proxy, freshBucket(), query);
    const opened = await openS3(server, { ...settings, endpoint: server.endpoint });
    return new ProxiedStore(server, proxy, settings, opened);
  }

  /** A writer through the proxy, to be disposed of by the caller. Undefined credentials are those of the standard chain. */
  async open(
    parts: { readonly credentials?: S3Parts['credentials'] } = {},
    more: Partial<S3Settings> = {},
  ): Promise<S3Writer> {
    const { credentials, ...others } = { ...partsFor(this.#server), ...parts };
    return await openS3Writer(
      { ...this.settings, ...more },
      {
        ...others,
        onRetry: (notice) => void this.notices.push(notice),
        ...(credentials === undefined ? {} : { credentials }),
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.close();
    await this.proxy[Symbol.asyncDispose]();
  }
}
