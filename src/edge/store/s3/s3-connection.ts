import { readFileSync } from 'node:fs';
import { Agent as HttpsAgent } from 'node:https';
import { createRequire } from 'node:module';
import { crc32 } from 'node:zlib';
import { hash } from 'node:crypto';
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { HoldfastError } from '../../../engine/model/errors.ts';
import type { Clock } from '../../../engine/ports/clock.ts';
import { ConcurrencyWindow } from './concurrency-window.ts';
import { GetHandler, type Handler } from './get-handler.ts';
import { RequestPolicy, type RequestPolicyOptions } from './request-policy.ts';
import type { S3Settings } from './s3-settings.ts';
import { UploadMemory } from './upload-memory.ts';

const connectMsMax = 10_000;

export interface S3Parts {
  readonly clock: Clock;
  readonly random: RequestPolicyOptions['random'];
  readonly onRetry?: RequestPolicyOptions['onRetry'];
  readonly ending?: RequestPolicyOptions['ending'];
  /** For tests. Without them the standard chain decides, and refreshes while the process runs. */
  readonly credentials?: S3Credentials | (() => Promise<S3Credentials>);
  /** In place of the SDK's client, for the simulator. */
  readonly client?: S3Sender;
  /** Bytes of the first parts of uploads; S3 wants 5 MiB or more. */
  readonly partBytes?: number;
}

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/**
 * An `import` would evaluate every export of it, WebSocket included, and load undici for that (measured: 40 ms and 15 MB). `require`
 * evaluates what is used. So it is with the certificates of `node:tls` below.
 */
const require = createRequire(import.meta.url);
const { Agent: HttpAgent } = require('node:http') as typeof import('node:http');

/** What is used of the SDK's client. */
export type S3Sender = Pick<S3Client, 'config' | 'destroy' | 'middlewareStack' | 'send'>;

/** An object of at most one part is sent by one request. */
const partBytesDefault = 8 * 1024 * 1024;
const partsAtOnce = 3;

/** The SDK's client for one bucket, how requests through it are made, and what is sent with every write. */
export class S3Connection implements AsyncDisposable {
  readonly client: S3Sender;
  readonly policy: RequestPolicy;
  readonly settings: S3Settings;
  readonly clock: Clock;
  readonly partBytes: number;
  readonly uploadMemory: UploadMemory;
  /** Parts that are being sent, of all uploads: what an outage takes is sent again, and that is these at most. */
  readonly sending: ConcurrencyWindow;

  constructor(settings: S3Settings, parts: S3Parts) {
    this.settings = settings;
    this.clock = parts.clock;
    this.client = parts.client ?? openClient(settings, parts);
    this.partBytes = parts.partBytes ?? partBytesDefault;
    this.uploadMemory = new UploadMemory(settings.uploadBytesMax);
    this.sending = new ConcurrencyWindow(parts.clock, partsAtOnce, partsAtOnce);
    const { requestsMax, requestsPerSecond, patienceMs } = settings;
    const { clock, random, onRetry, ending } = parts;
    // Past what the SDK remembers: it believes in credentials until the time that came with them, if any.
    const renewCredentials = () => this.client.config.credentials({ forceRefresh: true });
    const pace = { requestsMax, requestsPerSecond, patienceMs };
    this.policy = new RequestPolicy({ clock, random, ...pace, renewCredentials, onRetry, ending });
  }

  /** The bucket and the key of an object in it. */
  at(key: string): Location {
    const whole = `${this.settings.prefix}${key}`;
    if (whole.length > keyBytesMax) {
      throw new HoldfastError('E_LIMIT', `${key} and the prefix of the store are more than ${keyBytesMax} bytes`, {
        details: { key, prefix: this.settings.prefix },
        remedy: 'Use a shorter prefix in the address of the store.',
      });
    }
    return { ...this.bucket(), Key: whole };
  }

  /** What every request says. */
  bucket(): { readonly Bucket: string; readonly RequestPayer?: 'requester' } {
    return { Bucket: this.settings.bucket, ...(this.settings.requesterPays ? { RequestPayer: 'requester' } : {}) };
  }

  /** What makes an object says this, whole or in parts. */
  objectFields(key: string): ObjectFields {
    const { packClass, recordClass, encryption, objectLock, tags } = this.settings;
    const storageClass = isPack(key) ? packClass : recordClass;
    const query = new URLSearchParams(tags).toString();
    return {
      ContentType: 'application/octet-stream',
      ...(storageClass === undefined
        ? {}
        : { StorageClass: storageClass as NonNullable<ObjectFields['StorageClass']> }),
      ...(encryption === undefined
        ? {}
        : encryption.kind === 's3'
          ? { ServerSideEncryption: 'AES256' }
          : {
              ServerSideEncryption: 'aws:kms',
              ...(encryption.keyId === undefined ? {} : { SSEKMSKeyId: encryption.keyId }),
            }),
      ...(objectLock === undefined
        ? {}
        : {
            ObjectLockMode: objectLock.mode,
            ObjectLockRetainUntilDate: new Date(this.clock.nowMs() + objectLock.days * 86_400_000),
          }),
      ...(query === '' ? {} : { Tagging: query }),
    };
  }

  /** The checksum that goes with a body. CRC32 is computed here, by zlib; the SDK's own takes many times as long. */
  bodyFields(body: Uint8Array): BodyFields {
    const { checksum } = this.settings;
    const length = { Body: body, ContentLength: body.length };
    if (checksum === 'CRC32C') return { ...length, ChecksumAlgorithm: 'CRC32C' };
    if (checksum === 'SHA256') return { ...length, ChecksumSHA256: hash('sha256', body, 'base64') };
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(body));
    return { ...length, ChecksumCRC32: sum.toString('base64') };
  }

  /** Ends all connections. Nothing can be asked afterwards. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.client.destroy();
  }
}

export interface Location {
  readonly Bucket: string;
  readonly Key: string;
  readonly RequestPayer?: 'requester';
}

interface ObjectFields {
  readonly ContentType: string;
  readonly StorageClass?: 'STANDARD';
  readonly ServerSideEncryption?: 'AES256' | 'aws:kms';
  readonly SSEKMSKeyId?: string;
  readonly ObjectLockMode?: 'GOVERNANCE' | 'COMPLIANCE';
  readonly ObjectLockRetainUntilDate?: Date;
  readonly Tagging?: string;
}

interface BodyFields {
  readonly Body: Uint8Array;
  readonly ContentLength: number;
  readonly ChecksumAlgorithm?: 'CRC32C';
  readonly ChecksumCRC32?: string;
  readonly ChecksumSHA256?: string;
}

const keyBytesMax = 1024;

/** Packs are what is large; `v1/l/<hh>/<lineage>/pk/…`. */
function isPack(key: string): boolean {
  return key.split('/')[4] === 'pk';
}

function openClient(settings: S3Settings, parts: S3Parts): S3Client {
  const client = new S3Client(clientConfig(settings, parts));
  client.middlewareStack.add(
    (next) => (args) => {
      signByChecksum((args.request as { readonly headers: Record<string, string> }).headers);
      return next(args);
    },
    { step: 'build', priority: 'low', name: 'signByChecksum' },
  );
  // What may go through a proxy is left to Node, which knows how.
  if (mayUseProxy(settings)) return client;
  const { config } = client;
  const options = { ca: trusted(settings.caFile), connectMsMax, stallMs: settings.stallMs };
  // The SDK knows signals of its own kind; it is given none but Node's.
  config.requestHandler = new GetHandler(config.requestHandler as Handler, options) as typeof config.requestHandler;
  return client;
}

/**
 * The signature covers a body by its checksum, a signed header that the server proves. The SDK would hash all that is sent once more, and
 * so would the server. Whoever can change a body so that its CRC stays stands in the connection, and could as well answer for the
 * server. Where a policy demands that bodies are signed, `checksum=SHA256` does it.
 */
function signByChecksum(headers: Record<string, string>): void {
  const sha256 = headers['x-amz-checksum-sha256'];
  if (sha256 !== undefined) headers['x-amz-content-sha256'] = Buffer.from(sha256, 'base64').toString('hex');
  else if ('x-amz-checksum-crc32' in headers || 'x-amz-checksum-crc32c' in headers) {
    headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
  }
}

function mayUseProxy(settings: S3Settings): boolean {
  const env = proxyEnvironment(settings);
  return ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'].some((name) => (env[name] ?? '') !== '');
}

function clientConfig(settings: S3Settings, { credentials }: S3Parts): S3ClientConfig {
  const { region, endpoint, pathStyle, profile, stallMs, requestsMax } = settings;
  const proxyEnv = proxyEnvironment(settings);
  const ca = trusted(settings.caFile);
  const agent = { keepAlive: true, maxSockets: requestsMax, proxyEnv };
  return {
    ...(region === undefined ? (endpoint === undefined ? {} : { region: ownRegion }) : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(profile === undefined ? {} : { profile }),
    forcePathStyle: pathStyle,
    // Retries are ours: the SDK's would hide from us that a write may have happened.
    maxAttempts: 1,
    requestHandler: {
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent({ ...agent, ...(ca === undefined ? {} : { ca }) }),
      connectionTimeout: connectMsMax,
      // Without a byte in either direction for so long, the attempt ends.
      socketTimeout: stallMs,
    },
    // What is read is verified by the engine, with a keyed hash; what is written brings its checksum.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // A round trip for each part, in exchange for learning of a refusal a little earlier.
    expectContinueHeader: false,
    followRegionRedirects: false,
    ...(credentials === undefined ? rereadFiles : { credentials }),
    // The SDK's default writes warnings to the console.
    logger: silent,
  };
}

/** Servers with an endpoint of their own mostly want this one in signatures. */
function ownRegion(): Promise<string> {
  return Promise.resolve(process.env['AWS_REGION'] ?? process.env['AWS_DEFAULT_REGION'] ?? 'us-east-1');
}

function proxyEnvironment({ proxy }: S3Settings): NodeJS.ProcessEnv {
  if (proxy === undefined) return process.env;
  return { http_proxy: proxy, https_proxy: proxy, no_proxy: process.env['NO_PROXY'] ?? process.env['no_proxy'] };
}

/** The system's CAs and those of a file. */
function trusted(caFile: string | undefined): string[] | undefined {
  if (caFile === undefined) return undefined;
  try {
    const { rootCertificates } = require('node:tls') as typeof import('node:tls');
    return [...rootCertificates, readFileSync(caFile, 'utf8')];
  } catch (cause) {
    throw new HoldfastError('E_USAGE', `the CA file ${caFile} cannot be read`, {
      cause,
      remedy: 'Give the path of a PEM file that this user may read.',
    });
  }
}

/**
 * For the SDK's chain, whose types do not tell of it: without, `~/.aws/credentials` is read once in a process, and what is put there
 * later never seen.
 */
const rereadFiles = { ignoreCache: true };

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };
