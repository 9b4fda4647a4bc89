/** A bucket on a test server behind a bad network, as processes of bin/holdfast are given it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3';
import { packPrefix } from '../../src/engine/format/object-keys.ts';
import { toLineageName } from '../../src/engine/model/ids.ts';
import { Chance, type WorldStore } from '../process/world.ts';
import { type S3Server, startServer } from '../servers/s3-server.ts';
import { freshBucket } from '../servers/s3-store-of.ts';
import type { ServerName } from '../servers/server-programs.ts';
import { type Fault, FaultProxy } from '../support/fault-proxy.ts';

const prefix = 'some/prefix/';
/** A run reads more often than it writes. */
const readFaultRate = 0.06;
const writeFaultRate = 0.3;

type Card = (chance: Chance) => Fault;

const forAny: readonly Card[] = [
  () => ({ kind: 'drop' }),
  () => ({ kind: 'stall' }),
  (chance) => ({ kind: 'delay', ms: chance.below(300) }),
  (chance) => ({ kind: 'answer', status: 500, code: 'InternalError', after: chance.below(2) === 0 }),
  () => ({ kind: 'answer', status: 503, code: 'SlowDown' }),
];
const forReads: readonly Card[] = [
  (chance) => ({ kind: 'cut', bytes: chance.below(5000) }),
  () => ({ kind: 'stall-body', bytes: 10 }),
];
const forWrites: readonly Card[] = [
  () => ({ kind: 'lose-reply' }),
  () => ({ kind: 'twice' }),
  (chance) => ({ kind: 'late', until: sleep(chance.below(600), undefined, { ref: false }) }),
  (chance) => ({ kind: 'answer', status: 409, code: 'ConditionalRequestConflict', after: chance.below(2) === 0 }),
];

/** Every kind that there is. */
export const faultKinds: readonly string[] = [
  ...new Set([...forAny, ...forReads, ...forWrites].map((card) => card(new Chance(1)).kind)),
].sort();

/** Deals all cards of one hand in an order of chance, then those of the next, and so on: a dozen faults are of all kinds. */
class Deck {
  readonly #hands: readonly (readonly Card[])[];
  #dealt = 0;
  #left: Card[] = [];

  constructor(...hands: readonly (readonly Card[])[]) {
    this.#hands = hands;
  }

  deal(chance: Chance): Fault {
    if (this.#left.length === 0) this.#left = [...(this.#hands[this.#dealt++ % this.#hands.length] as readonly Card[])];
    const [card] = this.#left.splice(chance.below(this.#left.length), 1);
    return (card as Card)(chance);
  }
}

export class S3Place implements WorldStore, AsyncDisposable {
  readonly server: S3Server;
  readonly proxy: FaultProxy;
  readonly bucket: string = freshBucket();
  readonly env: Readonly<Record<string, string>>;
  readonly slowEnv: Readonly<Record<string, string>>;
  /** Faults that were met, by kind. */
  readonly faults: Map<string, number> = new Map();
  readonly #reads = new Deck(forReads, forAny);
  readonly #writes = new Deck(forWrites, forAny);
  readonly #client: S3Client;

  private constructor(server: S3Server, proxy: FaultProxy, settings: string) {
    this.server = server;
    this.proxy = proxy;
    const { accessKeyId, secretAccessKey, endpoint } = server;
    this.env = {
      HOLDFAST_STORE: `s3://${this.bucket}/${prefix}?endpoint=${proxy.endpoint}${settings}`,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
    };
    this.slowEnv = { HOLDFAST_STORE: `${this.env['HOLDFAST_STORE']}&requests-per-second=6&requests-max=1` };
    const credentials = { accessKeyId, secretAccessKey };
    this.#client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  }

  /** `settings` of the address, each with an ampersand in front. */
  static async start(name: ServerName, settings = '&stall-seconds=1'): Promise<S3Place> {
    const server = await startServer(name);
    return new S3Place(server, await FaultProxy.start(server.port), settings);
  }

  /** Asked past the proxy, and without a prefix: MinIO takes one for the key of an object. */
  async leftovers(lineage?: string): Promise<number> {
    const below = lineage === undefined ? prefix : prefix + packPrefix(toLineageName(lineage));
    const { Uploads = [] } = await this.#client.send(new ListMultipartUploadsCommand({ Bucket: this.bucket }));
    return Uploads.filter(({ Key = '' }) => Key.startsWith(below)).length;
  }

  partsSeen(): number {
    return this.proxy.count('PUT', /partNumber/);
  }

  anchoring(): () => boolean {
    const before = this.proxy.requests.length;
    return () => {
      const requests = this.proxy.requests.slice(before);
      const completed = requests.findIndex(({ method, url }) => method === 'POST' && url.includes('uploadId='));
      return (
        completed >= 0 && requests.slice(completed).some(({ method, url }) => method === 'PUT' && url.includes('/log/'))
      );
    };
  }

  async overBadNetwork<Result>(run: () => Promise<Result>): Promise<Result> {
    const chance = new Chance(this.proxy.requests.length);
    this.proxy.rule = ({ method }) => {
      const reads = method === 'GET' || method === 'HEAD';
      if (!(chance.next() < (reads ? readFaultRate : writeFaultRate))) return undefined;
      const fault = (reads ? this.#reads : this.#writes).deal(chance);
      this.faults.set(fault.kind, (this.faults.get(fault.kind) ?? 0) + 1);
      return fault;
    };
    try {
      return await run();
    } finally {
      this.proxy.rule = () => undefined;
      await this.proxy.settle();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    await this.proxy[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}
