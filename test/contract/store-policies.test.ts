import { describe, expect, it } from 'vitest';
import { type PolicyScope, type StoreRole, storePolicy, storeRoles } from '../../src/contract/store-policies.ts';

const scope: PolicyScope = {
  bucket: 'backups',
  prefix: 'prod/',
  lineage: 'v1/l/7f/team_.app_.0/',
  domain: 'v1/key/team_.app/',
  pins: 'v1/pin/team_.app_.0/',
  dialect: 'aws',
};

function actionsOf(role: StoreRole, dialect: PolicyScope['dialect'] = 'aws'): string[] {
  return storePolicy(role, { ...scope, dialect }).Statement.flatMap(({ Action }) => Action);
}

/** What the role may create, as the part of the resource behind the bucket. */
function createdBy(role: StoreRole): string[] {
  return storePolicy(role, scope)
    .Statement.filter(({ Action }) => Action.includes('s3:PutObject'))
    .flatMap(({ Resource }) => Resource)
    .map((resource) => resource.replace('arn:aws:s3:::backups/', ''));
}

describe('policies', () => {
  it('let nobody but garbage collection delete', () => {
    const deleting = storeRoles.filter((role) => actionsOf(role).some((action) => action.startsWith('s3:Delete')));
    expect(deleting).toEqual(['gc']);
  });

  it('let an agent create below its own lineage alone, and restores nothing', () => {
    expect([...new Set(createdBy('agent'))]).toEqual([
      'prod/v1/l/7f/team_.app_.0/log/*',
      'prod/v1/l/7f/team_.app_.0/pk/*',
      'prod/v1/l/7f/team_.app_.0/receipt/*',
    ]);
    expect(createdBy('restore')).toEqual([]);
    expect(createdBy('gc')).not.toContain('prod/v1/l/7f/team_.app_.0/log/*');
  });

  it('never allow a write that is neither conditional nor a part of an upload, where that can be said', () => {
    for (const role of storeRoles) {
      for (const { Action, Condition } of storePolicy(role, scope).Statement) {
        if (!Action.includes('s3:PutObject')) continue;
        expect([
          { Null: { 's3:if-none-match': 'false' } },
          { Bool: { 's3:ObjectCreationOperation': 'false' } },
        ]).toContainEqual(Condition);
      }
    }
  });

  it('list only below what they name, and read nothing of others', () => {
    const [read, list] = storePolicy('restore', scope).Statement;
    expect(read?.Resource).toEqual([
      'arn:aws:s3:::backups/prod/v1/repo',
      'arn:aws:s3:::backups/prod/v1/key/team_.app/*',
      'arn:aws:s3:::backups/prod/v1/l/7f/team_.app_.0/*',
    ]);
    expect(list?.Condition).toEqual({
      StringLike: { 's3:prefix': ['prod/v1/l/7f/team_.app_.0/*', 'prod/v1/key/team_.app/*'] },
    });
  });
});
