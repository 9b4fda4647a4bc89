/**
 * The rights that each kind of process needs in a bucket, as IAM policies: no more than that. `holdfast doctor --policies` prints
 * them, and they are what the bucket of a team should have. Prefixes come in as text, made by format/object-keys.ts.
 */

export const storeRoles = ['agent', 'restore', 'gc', 'person'] as const;
export type StoreRole = (typeof storeRoles)[number];

export interface PolicyScope {
  readonly bucket: string;
  /** What stands before every key of the store: empty, or ending with a slash. */
  readonly prefix: string;
  /** `v1/l/<hh>/<lineage>/` of one lineage, or with wildcards for several. */
  readonly lineage: string;
  /** `v1/key/<domain>/` of its key domain. */
  readonly domain: string;
  /** `v1/pin/<lineage>/` */
  readonly pins: string;
  /**
   * aws: creating is allowed only under the condition that nothing is overwritten. other: servers that refuse a policy with
   * conditions that they do not know; there who may create may overwrite.
   */
  readonly dialect: 'aws' | 'other';
}

export interface PolicyStatement {
  readonly Sid: string;
  readonly Effect: 'Allow';
  readonly Action: readonly string[];
  readonly Resource: readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
}

export interface Policy {
  readonly Version: '2012-10-17';
  readonly Statement: readonly PolicyStatement[];
}

/** The policy of one role. */
export function storePolicy(role: StoreRole, scope: PolicyScope): Policy {
  return { Version: '2012-10-17', Statement: statements[role](scope) };
}

const statements: Readonly<Record<StoreRole, (scope: PolicyScope) => readonly PolicyStatement[]>> = {
  // What it reads is its own workload's; what it makes is one log, its packs and its receipts.
  agent: (scope) => [
    read(scope, ['v1/repo', `${scope.domain}*`, `${scope.lineage}*`]),
    list(scope, [scope.lineage, scope.domain]),
    ...create(scope, [`${scope.lineage}log/*`, `${scope.lineage}pk/*`, `${scope.lineage}receipt/*`]),
    allow(
      'EndOwnUploads',
      ['s3:AbortMultipartUpload', 's3:ListMultipartUploadParts'],
      objects(scope, [`${scope.lineage}pk/*`]),
    ),
    allow('FindOwnUploads', ['s3:ListBucketMultipartUploads'], [bucket(scope)]),
  ],
  restore: (scope) => [
    read(scope, ['v1/repo', `${scope.domain}*`, `${scope.lineage}*`]),
    list(scope, [scope.lineage, scope.domain]),
  ],
  // Reads what is in clear, has no keys, and deletes. In versioned buckets it deletes versions.
  gc: (scope) => [
    read(scope, ['v1/repo', 'v1/key/*', 'v1/l/*', 'v1/pin/*']),
    list(scope, ['v1/l/', 'v1/pin/', 'v1/key/']),
    ...create(scope, ['v1/l/*/gc/*', 'v1/audit/*']),
    allow('Collect', ['s3:DeleteObject', 's3:DeleteObjectVersion'], objects(scope, ['v1/l/*', 'v1/pin/*'])),
    allow('ListVersions', ['s3:ListBucketVersions'], [bucket(scope)]),
  ],
  // Whoever restores by hand pins, releases suspects, and makes repositories and keys.
  person: (scope) => [
    read(scope, ['v1/*']),
    list(scope, ['v1/']),
    ...create(scope, ['v1/repo', 'v1/key/*', 'v1/probe/*', `${scope.lineage}ack/*`, `${scope.pins}*`, 'v1/audit/*']),
  ],
};

function read(scope: PolicyScope, keys: readonly string[]): PolicyStatement {
  return allow('Read', ['s3:GetObject'], objects(scope, keys));
}

function list(scope: PolicyScope, prefixes: readonly string[]): PolicyStatement {
  const below = prefixes.map((prefix) => `${scope.prefix}${prefix}*`);
  return {
    ...allow('List', ['s3:ListBucket'], [bucket(scope)]),
    Condition: { StringLike: { 's3:prefix': below } },
  };
}

/**
 * Creating an object whole, or completing one of many parts, must carry If-None-Match. Beginning an upload and sending its parts
 * cannot carry it, and make no object.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html
 */
function create(scope: PolicyScope, keys: readonly string[]): readonly PolicyStatement[] {
  const made = allow('Create', ['s3:PutObject'], objects(scope, keys));
  if (scope.dialect === 'other') return [made];
  return [
    { ...made, Condition: { Null: { 's3:if-none-match': 'false' } } },
    { ...made, Sid: 'SendParts', Condition: { Bool: { 's3:ObjectCreationOperation': 'false' } } },
  ];
}

function allow(Sid: string, Action: readonly string[], Resource: readonly string[]): PolicyStatement {
  return { Sid, Effect: 'Allow', Action, Resource };
}

function bucket(scope: PolicyScope): string {
  return `arn:aws:s3:::${scope.bucket}`;
}

function objects(scope: PolicyScope, keys: readonly string[]): readonly string[] {
  return keys.map((key) => `${bucket(scope)}/${scope.prefix}${key}`);
}
