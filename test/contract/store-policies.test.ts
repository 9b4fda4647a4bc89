import { describe, expect, it } from 'vitest';
import { questionsOf } from '../../src/cli/policies.ts';
import { dialectOf, type IamPolicy, type PolicyPlace, storePolicy } from '../../src/contract/store-policies.ts';
import { everyPlace, mayDo, type Role, type RolePlaces, roles } from '../../src/contract/store-roles.ts';
import { lineagePrefix, logKey, packKey } from '../../src/engine/format/object-keys.ts';
import { storePlaces } from '../../src/engine/lineage/store-places.ts';
import { toLineageName, toSlot } from '../../src/engine/model/ids.ts';

const lineage = toLineageName('team/app/0');
const other = toLineageName('team/other/0');
const own = lineagePrefix(lineage);
const one = storePlaces({ lineage });
const aws: PolicyPlace = {
  bucket: 'bucket',
  prefix: 'some/prefix/',
  partition: 'aws',
  tags: {},
  locksObjects: false,
  kmsKey: undefined,
  dialect: 'aws',
};

const actionsOf = ({ Statement }: IamPolicy): string[] => Statement.flatMap(({ Action }) => Action);

describe('the policy of an agent on AWS', () => {
  it('creates below its lineage only, and only where nothing stands', () => {
    const { Statement } = storePolicy('agent', one, aws);
    const writes = Statement.filter(({ Action }) => Action.includes('s3:PutObject'));
    const where = ['log', 'pk', 'receipt'].map((part) => `arn:aws:s3:::bucket/some/prefix/${own}${part}/*`);
    expect(writes).toEqual([
      {
        Sid: 'CreateOnly',
        Effect: 'Allow',
        Action: ['s3:PutObject'],
        Resource: where,
        Condition: { Null: { 's3:if-none-match': 'false' } },
      },
      {
        Sid: 'CreateOnlyParts',
        Effect: 'Allow',
        Action: ['s3:PutObject'],
        Resource: where,
        Condition: { Bool: { 's3:ObjectCreationOperation': 'false' } },
      },
    ]);
  });

  it('deletes nothing, and has no right to the bucket but to list its own names and uploads', () => {
    const policy = storePolicy('agent', one, aws);
    expect(actionsOf(policy).sort()).toEqual([
      's3:AbortMultipartUpload',
      's3:GetObject',
      's3:ListBucket',
      's3:ListBucketMultipartUploads',
      's3:PutObject',
      's3:PutObject',
    ]);
    const list = policy.Statement.find(({ Action }) => Action.includes('s3:ListBucket'));
    expect(list?.Condition).toEqual({
      StringLike: { 's3:prefix': ['some/prefix/v1/key/team_.app/*', `some/prefix/${own}*`] },
    });
  });
});

describe('policies', () => {
  it.each(roles)('of %s never hold a wildcard for actions or the whole bucket', (role) => {
    for (const places of [one, storePlaces({ workload: 'team/app' }), everyPlace]) {
      const policy = storePolicy(role, places, aws);
      for (const { Action, Resource } of policy.Statement) {
        expect(Action.join()).not.toContain('*');
        for (const each of Resource) expect(each).toMatch(/^arn:aws:s3:::bucket(\/some\/prefix\/v1\/.+)?$/);
      }
      expect(actionsOf(policy).some((action) => action.startsWith('s3:Delete'))).toBe(
        role === 'gc' || role === 'setup',
      );
    }
  });

  it('name what the settings of the store ask for', () => {
    const place = { ...aws, partition: 'aws-cn', tags: { team: 'a' }, locksObjects: true, kmsKey: 'key-1' };
    const actions = actionsOf(storePolicy('agent', one, place));
    expect(actions).toEqual(
      expect.arrayContaining(['s3:PutObjectTagging', 's3:PutObjectRetention', 'kms:GenerateDataKey', 'kms:Decrypt']),
    );
    expect(JSON.stringify(storePolicy('agent', one, place))).toContain('arn:aws-cn:kms:*:*:key/key-1');
  });

  it('leave out what a server would not take', () => {
    expect(dialectOf({ isAws: true, server: '' })).toBe('aws');
    expect(dialectOf({ isAws: false, server: 'MinIO' })).toBe('plain');
    expect(JSON.stringify(storePolicy('agent', one, { ...aws, dialect: 'plain' }))).not.toContain('s3:if-none-match');
    const dialect = dialectOf({ isAws: false, server: 'SeaweedFS 8000GB 4.48' });
    const seaweed = storePolicy('agent', one, { ...aws, dialect });
    expect(actionsOf(seaweed)).not.toContain('s3:ListBucketMultipartUploads');
    expect(seaweed.Statement.every(({ Action }) => Action.length > 0)).toBe(true);
  });
});

describe('what a role may do', () => {
  const asked = questionsOf({ lineage, other }, 'doctor-x');
  const allowed = (role: Role, places: RolePlaces): string[] =>
    asked.filter((question) => mayDo(role, places, question)).map(({ text }) => text);

  it('is the least that it needs', () => {
    expect(allowed('agent', one)).toEqual([
      'read the repository object',
      'list records of the lineage',
      'create records of the lineage',
      'create packs of the lineage',
      'create receipts of the lineage',
      'end unfinished uploads of packs',
    ]);
    expect(allowed('restore', one)).toEqual(['read the repository object', 'list records of the lineage']);
    expect(allowed('gc', one)).toEqual([
      'read the repository object',
      'list records of the lineage',
      'list everything',
      'create decisions of garbage collection',
      'delete records of the lineage',
      'delete packs of the lineage',
      'end unfinished uploads of packs',
    ]);
    expect(allowed('people', one)).toEqual([
      'read the repository object',
      'list records of the lineage',
      'list everything',
      'release suspects of the lineage',
      'pin checkpoints of the lineage',
    ]);
    expect(allowed('setup', one)).toEqual([
      'read the repository object',
      'list records of the lineage',
      'list everything',
      'create keys of workloads',
    ]);
  });

  it('is for nobody to overwrite', () => {
    for (const role of roles) expect(allowed(role, everyPlace).join()).not.toContain('overwrite');
  });

  it('by workload is for its replicas, and for no workload beside it', () => {
    const places = storePlaces({ workload: 'team/app' });
    const may = (name: string): boolean =>
      mayDo('agent', places, { verb: 'create', key: logKey(toLineageName(name), toSlot(7)) });
    expect(['team/app/0', 'team/app/12'].map(may)).toEqual([true, true]);
    expect(['team/app2/0', 'team/other/0', 'other/team/app/0', 'team/a_pp/0'].map(may)).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });

  it('covers the keys that the engine makes', () => {
    const may = (verb: 'create' | 'read', key: string): boolean => mayDo('agent', one, { verb, key });
    expect(may('create', logKey(lineage, toSlot(3)))).toBe(true);
    expect(may('create', packKey(lineage, '3-1-0-0123abcd'))).toBe(true);
    expect(may('create', logKey(other, toSlot(3)))).toBe(false);
    expect(may('read', 'v1/key/team_.app/1')).toBe(true);
    expect(may('create', 'v1/key/team_.app/2')).toBe(false);
  });

  it('asks for no key that could stand in a store', () => {
    for (const { verb, key } of asked) {
      if (verb !== 'read' && verb !== 'list') expect(key.endsWith('/doctor-x')).toBe(true);
    }
  });
});
