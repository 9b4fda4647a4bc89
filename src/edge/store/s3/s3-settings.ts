import { HoldfastError } from '../../../engine/model/errors.ts';
import { isKeyPart } from '../object-key.ts';

/** Everything that decides how an S3 store is used. No secrets: those come from the standard credential chain. */
export interface S3Settings {
  readonly bucket: string;
  /** What every key is put behind: empty, or ending with a slash. */
  readonly prefix: string;
  /** Undefined: what the AWS configuration files and the environment say. */
  readonly region: string | undefined;
  /** Undefined: the endpoint of AWS for the region. */
  readonly endpoint: string | undefined;
  /** `endpoint/bucket/key` in place of `bucket.endpoint/key`. */
  readonly pathStyle: boolean;
  /** A PEM file of certificates that are trusted beside those of the system. */
  readonly caFile: string | undefined;
  /** Undefined: what HTTPS_PROXY, HTTP_PROXY and NO_PROXY say. */
  readonly proxy: string | undefined;
  /** Storage class of packs; undefined is the bucket's default. */
  readonly packClass: string | undefined;
  /** Storage class of everything else: records, keys, the repository object. Small and read first. */
  readonly recordClass: string | undefined;
  readonly encryption: S3Encryption | undefined;
  readonly objectLock: S3ObjectLock | undefined;
  /** Sent with every write, and checked by the server before it answers. */
  readonly checksum: S3Checksum;
  /** Whose credentials and region are used; undefined: those of the environment. */
  readonly profile: string | undefined;
  readonly requesterPays: boolean;
  /** Tags of every object. */
  readonly tags: Readonly<Record<string, string>>;
  /** Requests under way at the same time, at most. */
  readonly requestsMax: number;
  /** Attempts a second, at most; undefined sets no bound. */
  readonly requestsPerSecond: number | undefined;
  /** Memory of all parts of uploads together. */
  readonly uploadBytesMax: number;
  /** An attempt that neither sends nor receives anything for so long has failed. */
  readonly stallMs: number;
  /** A request is tried again for so long after the store has stopped answering. */
  readonly patienceMs: number;
}

export type S3Encryption = { readonly kind: 's3' } | { readonly kind: 'kms'; readonly keyId: string | undefined };

export interface S3ObjectLock {
  readonly mode: 'GOVERNANCE' | 'COMPLIANCE';
  readonly days: number;
}

export type S3Checksum = 'CRC32' | 'CRC32C' | 'SHA256';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Name in the address → what it is, for the messages. Each can also be given as HOLDFAST_S3_NAME. */
const settingNames = {
  region: 'a region such as eu-central-1',
  endpoint: 'the URL of a server, such as https://s3.example.org',
  'path-style': 'true or false',
  'ca-file': 'the path of a PEM file',
  proxy: 'the URL of an HTTP proxy',
  'storage-class': 'a storage class such as STANDARD_IA',
  'record-storage-class': 'a storage class such as STANDARD',
  sse: 's3, kms or kms:KEY-ID',
  'object-lock': 'governance:DAYS or compliance:DAYS',
  checksum: 'crc32, crc32c or sha256',
  profile: 'the name of a profile in the configuration of AWS',
  'requester-pays': 'true or false',
  tags: 'KEY=VALUE, several joined by commas',
  'requests-max': 'a whole number of 1 to 1000',
  'requests-per-second': 'a whole number of 1 to 100000',
  'upload-mib': 'a whole number of 16 to 10000',
  'stall-seconds': 'seconds, 1 to 3600',
  'patience-seconds': 'seconds, 0 to 86400',
} as const;

type SettingName = keyof typeof settingNames;

/** Objects of these classes cannot be read at once: no restore could be made of them. */
const archiveClasses: readonly string[] = ['GLACIER', 'DEEP_ARCHIVE'];
/** Parts of names that only secrets have. */
const secretWords = /secret|password|passphrase|token|credential|access-?key|customer-key/i;
const bucketName = /^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$/i;

/**
 * Reads an address such as `s3://bucket/prefix?region=eu-central-1&storage-class=STANDARD_IA`. What the address does not
 * say comes from HOLDFAST_S3_… and, for endpoint and CA bundle, from what AWS's own tools read. E_USAGE for anything that
 * is wrong, and for a secret: an address stands in command lines and logs.
 */
export function parseS3Settings(address: string, env: Environment): S3Settings {
  const { bucket, prefix, query } = parseAddress(address);
  const text = (name: SettingName): string | undefined => query.get(name) ?? nonEmpty(env[variableOf(name)]);
  const given = <T>(name: SettingName, read: (value: string) => T | undefined): T | undefined => {
    const value = text(name);
    if (value === undefined) return undefined;
    const result = read(value);
    if (result === undefined) throw badSetting(name, query.has(name));
    return result;
  };
  const endpoint =
    given('endpoint', toUrl) ?? nonEmpty(env['AWS_ENDPOINT_URL_S3']) ?? nonEmpty(env['AWS_ENDPOINT_URL']);
  return Object.freeze({
    bucket,
    prefix,
    region: given('region', (value) => (/^[a-z0-9-]+$/i.test(value) ? value : undefined)),
    endpoint,
    pathStyle: given('path-style', toBoolean) ?? endpoint !== undefined,
    caFile: given('ca-file', nonEmpty) ?? nonEmpty(env['AWS_CA_BUNDLE']),
    proxy: given('proxy', toUrl),
    packClass: given('storage-class', toStorageClass),
    recordClass: given('record-storage-class', toStorageClass),
    encryption: given('sse', toEncryption),
    objectLock: given('object-lock', toObjectLock),
    checksum: given('checksum', toChecksum) ?? 'CRC32',
    profile: given('profile', (value) => (/^[^\p{C}]{1,128}$/u.test(value) ? value : undefined)),
    requesterPays: given('requester-pays', toBoolean) ?? false,
    tags: given('tags', toTags) ?? {},
    requestsMax: given('requests-max', (value) => toCount(value, 1, 1000)) ?? 64,
    requestsPerSecond: given('requests-per-second', (value) => toCount(value, 1, 100_000)),
    uploadBytesMax: (given('upload-mib', (value) => toCount(value, 16, 10_000)) ?? 32) * 1024 * 1024,
    stallMs: (given('stall-seconds', (value) => toCount(value, 1, 3600)) ?? 30) * 1000,
    patienceMs: (given('patience-seconds', (value) => toCount(value, 0, 86_400)) ?? 300) * 1000,
  });
}

function parseAddress(address: string): { bucket: string; prefix: string; query: ReadonlyMap<string, string> } {
  const form = 'Write s3://BUCKET or s3://BUCKET/PREFIX, settings behind a question mark: s3://BUCKET?region=REGION.';
  const match = /^s3:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/i.exec(address);
  if (match === null) throw refusal('not the address of an S3 store', form);
  const [, bucket = '', path = '', search = ''] = match;
  if (bucket.includes('@')) throw secretRefusal('the address of an S3 store holds a user name or password');
  if (!bucketName.test(bucket)) throw refusal(`${JSON.stringify(bucket)} is no name of a bucket`, form);
  const parts = path.replace(/\/+$/, '').split('/');
  const prefix = path === '' ? '' : `${parts.join('/')}/`;
  if (prefix !== '' && !parts.every(isKeyPart)) {
    throw refusal(
      `the prefix ${JSON.stringify(path)} cannot be used in keys`,
      'Use letters, digits and . _ ~ % = @ + , : ! - in its parts, joined by single slashes.',
    );
  }
  const query = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(search)) {
    if (secretWords.test(name)) throw secretRefusal(`the address of an S3 store holds ${name}`);
    if (!Object.hasOwn(settingNames, name)) {
      throw refusal(
        `an S3 store has no setting ${JSON.stringify(name)}`,
        `Its settings are: ${Object.keys(settingNames).join(', ')}.`,
      );
    }
    if (query.has(name)) throw refusal(`the setting ${name} is given twice`, 'Give each setting once.');
    query.set(name, value);
  }
  return { bucket, prefix, query };
}

function variableOf(name: SettingName): string {
  return `HOLDFAST_S3_${name.replaceAll('-', '_').toUpperCase()}`;
}

/** The value is left out: it may be a secret that was put in the wrong place. */
function badSetting(name: SettingName, inAddress: boolean): HoldfastError {
  const where = inAddress ? `${name} in the address of the S3 store` : variableOf(name);
  return refusal(`${where} cannot be understood`, `Give ${settingNames[name]}.`);
}

function secretRefusal(message: string): HoldfastError {
  return refusal(
    `${message}: secrets do not belong into an address, where others can read them`,
    'Give credentials as AWS tools take them: a web identity, an instance role, ~/.aws/credentials or AWS_… variables.',
  );
}

function refusal(message: string, remedy: string): HoldfastError {
  return new HoldfastError('E_USAGE', message, { remedy });
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

function toUrl(text: string): string | undefined {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return undefined;
  const { username, password, search, hash } = new URL(text);
  return username === '' && password === '' && search === '' && hash === '' ? text : undefined;
}

function toBoolean(text: string): boolean | undefined {
  return text === 'true' ? true : text === 'false' ? false : undefined;
}

function toCount(text: string, min: number, max: number): number | undefined {
  const count = /^[0-9]{1,6}$/.test(text) ? Number(text) : Number.NaN;
  return count >= min && count <= max ? count : undefined;
}

function toStorageClass(text: string): string | undefined {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(text)) return undefined;
  if (archiveClasses.includes(text)) {
    throw refusal(
      `objects of storage class ${text} cannot be read at once, so nothing could be restored`,
      'Use a class with immediate access, such as STANDARD_IA or GLACIER_IR.',
    );
  }
  return text;
}

function toEncryption(text: string): S3Encryption | undefined {
  if (text === 's3') return { kind: 's3' };
  if (text === 'kms') return { kind: 'kms', keyId: undefined };
  const keyId = /^kms:([A-Za-z0-9:/_-]{1,2048})$/.exec(text)?.[1];
  if (keyId !== undefined) return { kind: 'kms', keyId };
  if (text.startsWith('c')) {
    throw refusal(
      'encryption with a key of the customer (SSE-C) is not supported',
      "Holdfast encrypts before it sends, with a key that the store never sees; use sse=s3 or sse=kms for the store's own.",
    );
  }
  return undefined;
}

function toObjectLock(text: string): S3ObjectLock | undefined {
  const match = /^(governance|compliance):([1-9][0-9]{0,4})$/i.exec(text);
  if (match === null) return undefined;
  return {
    mode: match[1]?.toLowerCase() === 'governance' ? 'GOVERNANCE' : 'COMPLIANCE',
    days: Number(match[2]),
  };
}

function toChecksum(text: string): S3Checksum | undefined {
  const name = text.toUpperCase();
  return name === 'CRC32' || name === 'CRC32C' || name === 'SHA256' ? name : undefined;
}

function toTags(text: string): Readonly<Record<string, string>> | undefined {
  const tags: Record<string, string> = {};
  for (const pair of text.split(',')) {
    const match = /^([^=]{1,128})=(.{0,256})$/u.exec(pair);
    if (match?.[1] === undefined || match[2] === undefined || Object.hasOwn(tags, match[1])) return undefined;
    tags[match[1]] = match[2];
  }
  return Object.keys(tags).length <= 10 ? tags : undefined;
}
