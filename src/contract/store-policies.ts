/** Policies in the language of AWS IAM, written from the table of roles. The same text goes into a bucket policy or a Helm chart. */
import { type Grant, grantsOf, type Role, type RolePlaces, type Verb } from './store-roles.ts';

export interface PolicyStatement {
  readonly Sid: string;
  readonly Effect: 'Allow';
  readonly Action: readonly string[];
  readonly Resource: readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
}

export interface IamPolicy {
  readonly Version: '2012-10-17';
  readonly Statement: readonly PolicyStatement[];
}

/** What of a bucket stands in its policies. */
export interface PolicyPlace {
  readonly bucket: string;
  /** What every key begins with; empty, or ending with a slash. */
  readonly prefix: string;
  /** `aws`, `aws-cn`, `aws-us-gov` */
  readonly partition: string;
  /** Tags that are given to every object. */
  readonly tags: Readonly<Record<string, string>>;
  /** Whether object lock is asked for with every object. */
  readonly locksObjects: boolean;
  /** The key of the store's key service that is asked for: its id, its ARN, or `*`. */
  readonly kmsKey: string | undefined;
  readonly dialect: PolicyDialect;
}

/**
 * What a server takes for a policy. Only AWS knows the condition keys that refuse a write without `If-None-Match`: MinIO and versitygw
 * refuse a policy that names them, SeaweedFS takes it and lets nobody write. So there who may create may also overwrite.
 * SeaweedFS besides does not know some actions by the names that AWS gives them. docs/stores.md, "Permissions".
 */
export type PolicyDialect = 'aws' | 'plain' | 'seaweedfs';

export function dialectOf({ isAws, server }: { readonly isAws: boolean; readonly server: string }): PolicyDialect {
  if (isAws || /^AmazonS3/i.test(server)) return 'aws';
  return /^SeaweedFS/i.test(server) ? 'seaweedfs' : 'plain';
}

const unknownToSeaweedFs: ReadonlySet<string> = new Set([
  's3:ListBucketMultipartUploads',
  's3:GetLifecycleConfiguration',
  's3:GetEncryptionConfiguration',
]);

/** The least that a role needs in a bucket. */
export function storePolicy(role: Role, places: RolePlaces, place: PolicyPlace): IamPolicy {
  const statements = grantsOf(role, places).flatMap((grant) => statementsOf(grant, place));
  const setup = role === 'setup' ? [askStatement(place)] : [];
  const kms = place.kmsKey === undefined ? [] : [kmsStatement(place, place.kmsKey)];
  const all: readonly PolicyStatement[] = [...statements, ...setup, ...kms];
  return {
    Version: '2012-10-17',
    Statement: place.dialect === 'seaweedfs' ? all.map(withoutUnknown).filter(({ Action }) => Action.length > 0) : all,
  };
}

function withoutUnknown(statement: PolicyStatement): PolicyStatement {
  return { ...statement, Action: statement.Action.filter((action) => !unknownToSeaweedFs.has(action)) };
}

const sids: Readonly<Record<Verb, string>> = {
  read: 'Read',
  list: 'List',
  create: 'CreateOnly',
  delete: 'Delete',
  endUploads: 'EndUploads',
};

function statementsOf({ verb, where }: Grant, place: PolicyPlace): readonly PolicyStatement[] {
  const bucket = `arn:${place.partition}:s3:::${place.bucket}`;
  const objects = where.map((pattern) => `${bucket}/${place.prefix}${pattern}`);
  const allow = (
    suffix: string,
    Action: readonly string[],
    Resource: readonly string[],
    Condition?: PolicyStatement['Condition'],
  ): PolicyStatement => ({
    Sid: `${sids[verb]}${suffix}`,
    Effect: 'Allow',
    Action,
    Resource,
    ...(Condition === undefined ? {} : { Condition }),
  });
  switch (verb) {
    case 'read':
      return [allow('', ['s3:GetObject'], objects)];
    case 'list':
      return [
        allow('', ['s3:ListBucket'], [bucket], {
          StringLike: { 's3:prefix': where.map((pattern) => `${place.prefix}${pattern}`) },
        }),
      ];
    case 'delete':
      // Of a bucket with versions the version is deleted, never only hidden.
      return [allow('', ['s3:DeleteObject', 's3:DeleteObjectVersion'], objects)];
    case 'endUploads':
      return [
        allow('', ['s3:AbortMultipartUpload'], objects),
        allow('List', ['s3:ListBucketMultipartUploads'], [bucket]),
      ];
    case 'create': {
      const more = [
        ...(Object.keys(place.tags).length > 0 ? ['s3:PutObjectTagging'] : []),
        ...(place.locksObjects ? ['s3:PutObjectRetention'] : []),
      ];
      const extra = more.length === 0 ? [] : [allow('Settings', more, objects)];
      if (place.dialect !== 'aws') return [allow('', ['s3:PutObject'], objects), ...extra];
      return [
        allow('', ['s3:PutObject'], objects, { Null: { 's3:if-none-match': 'false' } }),
        // Parts of an upload make no object; its completion does, and has to bring the condition.
        allow('Parts', ['s3:PutObject'], objects, { Bool: { 's3:ObjectCreationOperation': 'false' } }),
        ...extra,
      ];
    }
  }
}

/** What `doctor` asks the bucket about itself. */
function askStatement({ partition, bucket }: PolicyPlace): PolicyStatement {
  return {
    Sid: 'AskTheBucket',
    Effect: 'Allow',
    Action: [
      's3:GetBucketVersioning',
      's3:GetBucketObjectLockConfiguration',
      's3:GetLifecycleConfiguration',
      's3:GetEncryptionConfiguration',
    ],
    Resource: [`arn:${partition}:s3:::${bucket}`],
  };
}

function kmsStatement({ partition }: PolicyPlace, key: string): PolicyStatement {
  const arn = key.startsWith('arn:') || key === '*' ? key : `arn:${partition}:kms:*:*:key/${key}`;
  return { Sid: 'Encrypt', Effect: 'Allow', Action: ['kms:GenerateDataKey', 'kms:Decrypt'], Resource: [arn] };
}
