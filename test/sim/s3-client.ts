/**
 * The SDK's client as one process has it, with a bad network between it and the bucket: requests get lost, doubled and late, replies
 * get lost, bodies break off, and servers refuse for a while. The adapter above it is the real one, retries and all.
 */
import { S3Connection, type S3Sender } from '../../src/edge/store/s3/s3-connection.ts';
import { parseS3Settings, type S3Settings } from '../../src/edge/store/s3/s3-settings.ts';
import { S3Writer } from '../../src/edge/store/s3/s3-store.ts';
import { type Bucket, type Command, s3Error } from './bucket.ts';
import type { Chance } from './chance.ts';
import type { Network } from './network.ts';
import type { Process } from './process.ts';
import type { World } from './world.ts';

/** What can happen to a request. */
const faults = [
  'lost',
  'lostReply',
  'doubled',
  'echoed',
  'delayed',
  'failed',
  'failedAfter',
  'slowDown',
  'conflict',
  'conflictAfter',
  'cut',
  'full',
] as const;
type Fault = (typeof faults)[number];

const readFaults: readonly Fault[] = ['lost', 'lostReply', 'failed', 'slowDown', 'cut'];
const writeFaults: readonly Fault[] = faults.filter((fault) => fault !== 'cut');
const reads = new Set(['GetObjectCommand', 'HeadObjectCommand', 'ListObjectsV2Command', 'ListMultipartUploadsCommand']);

export interface S3Profile {
  /** Chance of a fault per request. */
  readonly fault: number;
  readonly slow: number;
  readonly partBytes: number;
  readonly query: string;
}

/** What the servers and the network of one world are like. `level`: none, light or heavy faults. */
export function s3ProfileOf(chance: Chance, level: number): S3Profile {
  const patience = chance.pick([0, 1, 30, 300]);
  return {
    fault: level * chance.pick([4, 8]),
    slow: chance.pick([0, 0.05, 0.2]),
    partBytes: chance.pick([500, 3000, 20_000]),
    query: `requests-max=${chance.pick([1, 3, 64])}&patience-seconds=${patience}`,
  };
}

/** The store in the bucket as one process sees it, by the real adapter. */
export function openSimulatedS3(parts: {
  readonly bucket: Bucket;
  readonly world: World;
  readonly process: Process;
  readonly network: Network;
  readonly chance: Chance;
  readonly profile: S3Profile;
}): S3Writer {
  const { process, chance, profile } = parts;
  const settings: S3Settings = {
    ...parseS3Settings(`s3://bucket?endpoint=http://server&${profile.query}`, {}),
    uploadBytesMax: 2 * profile.partBytes,
  };
  const client = new SimulatedClient(parts) as unknown as S3Sender;
  const random = chance.of('jitter');
  return new S3Writer(
    new S3Connection(settings, { clock: process.clock, random, client, partBytes: profile.partBytes }),
  );
}

class SimulatedClient {
  readonly #parts: Parameters<typeof openSimulatedS3>[0];
  readonly #chance: Chance;

  constructor(parts: Parameters<typeof openSimulatedS3>[0]) {
    this.#parts = parts;
    this.#chance = parts.chance.of('s3');
  }

  async send(
    command: { readonly constructor: { readonly name: string }; readonly input: Command['input'] },
    { abortSignal }: { readonly abortSignal?: AbortSignal } = {},
  ): Promise<unknown> {
    const { process, world, profile, network } = this.#parts;
    const name = command.constructor.name;
    const what = `${name.replace('Command', '')} ${lastOf(command.input)}`;
    // Drawn before the first wait, so that the order of requests alone decides.
    const kinds = reads.has(name) ? readFaults : writeFaults;
    const fault = this.#chance.happens(profile.fault) ? this.#chance.pick(kinds) : undefined;
    const slowMs = this.#chance.happens(profile.slow) ? this.#chance.below(3000) : 0;
    const cutAt = this.#chance.below(4000);
    // A copy: the effect may come when the sender has long used its memory again.
    const sent: Command = { name, input: { ...command.input, ...copied(command.input['Body']) } };
    await this.#pointOf(`${what}${fault === undefined ? '' : ` ${fault}`}`, slowMs);
    if (abortSignal?.aborted === true) throw Object.assign(new Error('aborted'), { name: 'AbortError' });
    if (fault !== undefined) world.count(fault);
    const effect = (): Promise<Command['input']> => this.#effect(sent);
    const later = (): void => {
      network.underWay.push({
        request: 0,
        operation: name,
        key: String(command.input['Key'] ?? ''),
        run: () => effect().then(() => 'done', String),
      });
    };
    const { reply, error } = await this.#under(fault, effect, later);
    if (!process.dead) await this.#pointOf(`${what} answers`, 0);
    if (error !== undefined) throw error;
    return answered(reply ?? {}, fault === 'cut' ? cutAt : undefined);
  }

  async #under(
    fault: Fault | undefined,
    effect: () => Promise<Command['input']>,
    later: () => void,
  ): Promise<{ readonly reply?: Command['input']; readonly error?: unknown }> {
    const done = (): Promise<{ reply?: Command['input']; error?: unknown }> =>
      effect().then(
        (reply) => ({ reply }),
        (error: unknown) => ({ error }),
      );
    switch (fault) {
      case undefined:
      case 'cut':
        return await done();
      case 'lost':
        return { error: networkError('ECONNRESET') };
      case 'lostReply':
        await done();
        return { error: networkError('ETIMEDOUT') };
      case 'doubled':
        await done();
        return await done();
      case 'echoed': {
        const first = await done();
        later();
        return first;
      }
      case 'delayed':
        later();
        return { error: networkError('ETIMEDOUT') };
      case 'failed':
        return { error: s3Error('InternalError', 500) };
      case 'failedAfter':
        await done();
        return { error: s3Error('ServiceUnavailable', 503) };
      case 'slowDown':
        return { error: s3Error('SlowDown', 503) };
      case 'conflict':
        return { error: s3Error('ConditionalRequestConflict', 409) };
      case 'conflictAfter':
        await done();
        return { error: s3Error('OperationAborted', 409) };
      case 'full':
        return { error: s3Error('XMinioStorageFull', 507) };
    }
  }

  async #effect(command: Command): Promise<Command['input']> {
    const { bucket, world } = this.#parts;
    try {
      return await bucket.apply(command);
    } catch (error) {
      const refused = error instanceof Error && error.name === 'PreconditionFailed';
      if (refused && world.broken.has('refusal')) return {};
      throw error;
    }
  }

  /** No line of a dead process runs any more, also not those that would wrap the error of its death. */
  async #pointOf(label: string, ms: number): Promise<void> {
    const { process } = this.#parts;
    if (process.dead) await new Promise<never>(() => {});
    await process.point(label, ms);
  }

  destroy(): void {}
}

function lastOf(input: Command['input']): string {
  const key = String(input['Key'] ?? input['Prefix'] ?? '');
  return key.split('/').slice(-2).join('/');
}

function copied(body: unknown): { readonly Body?: Uint8Array } {
  return body instanceof Uint8Array ? { Body: body.slice() } : {};
}

/** Reads come as a body in pieces, which may break off. */
function answered(reply: Command['input'], cutAt: number | undefined): unknown {
  const bytes: unknown = reply['Body'];
  if (!(bytes instanceof Uint8Array)) return reply;
  return {
    ...reply,
    Body: {
      async *[Symbol.asyncIterator]() {
        const end = cutAt === undefined ? bytes.length : Math.min(bytes.length, cutAt);
        yield bytes.subarray(0, end >> 1);
        yield bytes.subarray(end >> 1, end);
        if (cutAt !== undefined) throw networkError('ECONNRESET');
      },
      destroy() {},
    },
  };
}

function networkError(code: string): Error {
  return Object.assign(new Error(code), { code });
}
