import { describe, expect, test } from 'vitest';
import { bucketFindings, directoryFindings, type Finding, remnantFindings } from '../../src/cli/findings.ts';
import type { BucketFacts, DirectoryFacts, LifecycleRule } from '../../src/engine/ports/store-inspector.ts';

const known = <T>(value: T) => ({ known: true, value }) as const;
const unknown = (why: 'not-implemented' | 'not-allowed' | 'failed') =>
  ({ known: false, why, reason: 'Reason' }) as const;

const bucket: BucketFacts = {
  kind: 'bucket',
  bucket: 'bucket',
  prefix: 'p/',
  server: 'AmazonS3',
  aheadMs: 300,
  versions: known('kept' as const),
  objectLock: known({ enabled: false, byDefault: undefined }),
  rules: known([]),
  encryption: known('AES256'),
  unfinished: known(0),
  tags: { team: 'a' },
  locksObjects: false,
  kmsKey: undefined,
  partition: 'aws',
  isAws: true,
};
const rule: LifecycleRule = {
  id: 'r',
  prefix: '',
  tags: {},
  expires: false,
  archives: false,
  endsUploadsDays: undefined,
};

function of(check: string, findings: readonly Finding[]): Finding {
  const found = findings.filter((each) => each.check === check);
  expect(found).toHaveLength(1);
  return found[0] as Finding;
}
const seen = (check: string, facts: Partial<BucketFacts>, encrypted?: boolean): Finding =>
  of(check, bucketFindings({ ...bucket, ...facts }, encrypted));

describe('a bucket', () => {
  test.each([
    ['expires everything', { expires: true }, 'failed'],
    ['expires what contains this prefix', { expires: true, prefix: 'p/' }, 'failed'],
    ['expires a part of it', { expires: true, prefix: 'p/v1/l/7f/' }, 'failed'],
    ['expires what has one of our tags', { expires: true, tags: { team: 'a' } }, 'failed'],
    ['moves it into an archive', { archives: true }, 'failed'],
    ['expires what lies beside it', { expires: true, prefix: 'p2/' }, 'ok'],
    ['expires what has another tag', { expires: true, tags: { team: 'b' } }, 'ok'],
    ['ends uploads', { endsUploadsDays: 3 }, 'ok'],
  ] as const)('whose rule %s: %s', (_what, part, state) => {
    const found = seen('expiry rules', { rules: known([{ ...rule, ...part }]) });
    expect(found.state).toBe(state);
    if (state === 'failed') expect(found.remedy).toContain('p/v1/');
  });

  test('is asked for a rule that ends uploads of this prefix', () => {
    expect(seen('upload rule', {})).toMatchObject({ state: 'warning', remedy: expect.stringContaining('Abort') });
    const ends = (prefix: string): BucketFacts['rules'] => known([{ ...rule, prefix, endsUploadsDays: 3 }]);
    expect(seen('upload rule', { rules: ends('p/') }).state).toBe('ok');
    expect(seen('upload rule', { rules: ends('q/') }).state).toBe('warning');
    expect(seen('upload rule', { server: 'MinIO' }).state).toBe('ok');
  });

  test.each([
    [0, 'ok'],
    [-59_000, 'ok'],
    [61_000, 'warning'],
    [-20 * 60_000, 'failed'],
    [undefined, 'unknown'],
  ])('whose clock is ahead by %s ms: %s', (aheadMs, state) => {
    expect(seen('clock', { aheadMs }).state).toBe(state);
  });

  test('is protected by versions or by object lock', () => {
    const off = known({ enabled: false, byDefault: undefined });
    expect(seen('protection', { versions: known('none') }).state).toBe('warning');
    expect(seen('protection', { versions: known('suspended') }).state).toBe('warning');
    expect(seen('protection', { versions: known('kept'), objectLock: off }).state).toBe('ok');
    const lock = known({ enabled: true, byDefault: 'GOVERNANCE, 7 days' });
    expect(seen('protection', { objectLock: lock })).toMatchObject({
      state: 'ok',
      seen: expect.stringContaining('7 days'),
    });
  });

  test('that does not answer fails nothing, and why is said', () => {
    for (const [why, said] of [
      ['not-implemented', 'does not know the question'],
      ['not-allowed', 'may not ask'],
      ['failed', 'Reason'],
    ] as const) {
      const silent = unknown(why);
      const facts = { versions: silent, objectLock: silent, rules: silent, encryption: silent, unfinished: silent };
      const findings = bucketFindings({ ...bucket, ...facts }, true).filter(({ check }) => check !== 'clock');
      expect(findings.map(({ state }) => state)).toEqual(findings.map(() => 'unknown'));
      for (const each of findings) expect(each.seen).toContain(said);
    }
  });

  test('without encryption matters where the repository has none either', () => {
    expect(seen('encryption', { encryption: known(undefined) }, true).state).toBe('ok');
    expect(seen('encryption', { encryption: known(undefined) }, false).state).toBe('warning');
    expect(seen('encryption', {}, false).state).toBe('ok');
    expect(seen('leftovers', { unfinished: known(3) })).toMatchObject({
      state: 'warning',
      seen: expect.stringMatching(/^3 /),
    });
  });
});

describe('a directory', () => {
  const directory: DirectoryFacts = {
    kind: 'directory',
    path: '/srv/store',
    fileSystem: 'ext4',
    isNetwork: false,
    mode: 0o700,
    ownedByThisUser: true,
    freeBytes: 2 ** 40,
    totalBytes: 2 ** 41,
    freeFiles: 1_000_000,
    write: known(undefined),
    link: known(undefined),
    sync: known(undefined),
    tellsCapitals: known(true),
    unfinished: 0,
  };
  const state = (check: string, facts: Partial<DirectoryFacts>): string =>
    of(check, directoryFindings({ ...directory, ...facts })).state;

  test('that is as it should be gets one warning: it cannot tell roles apart', () => {
    const warned = directoryFindings(directory).filter((each) => each.state !== 'ok');
    expect(warned).toEqual([
      expect.objectContaining({ check: 'protection', remedy: expect.stringContaining('second store') }),
    ]);
  });

  test.each([
    ['hard links', { link: unknown('failed') }, 'failed'],
    ['sync', { sync: unknown('failed') }, 'failed'],
    ['write', { write: unknown('not-allowed') }, 'warning'],
    ['names', { tellsCapitals: known(false) }, 'warning'],
    ['file system', { fileSystem: 'nfs', isNetwork: true }, 'warning'],
    ['file system', { fileSystem: 'tmpfs' }, 'warning'],
    ['space', { freeBytes: 0 }, 'failed'],
    ['space', { freeFiles: 0 }, 'failed'],
    ['space', { freeBytes: 2 ** 29 }, 'warning'],
    ['space', { freeFiles: 5 }, 'warning'],
    ['space', { freeFiles: undefined }, 'ok'],
    ['permissions', { mode: 0o755 }, 'warning'],
    ['permissions', { ownedByThisUser: false }, 'warning'],
  ] as const)('%s of %j: %s', (check, facts, expected) => {
    expect(state(check, facts)).toBe(expected);
  });
});

test('what a trial has left is a warning with the first of it and the reasons, and nothing where nothing is left', () => {
  expect(remnantFindings([])).toEqual([]);
  const left = (kind: 'object' | 'upload', key: string, reason = 'AccessDenied') => ({ kind, key, reason });
  const finding = of(
    'trials',
    remnantFindings([left('upload', 'v1/probe/x/a', 'SlowDown'), left('object', 'v1/probe/x/b')]),
  );
  expect(finding).toMatchObject({ state: 'warning', remedy: expect.stringContaining('v1/probe/') });
  expect(finding.seen).toBe(
    '2 of this trial could not be removed and stay (SlowDown, AccessDenied): v1/probe/x/b, upload of v1/probe/x/a',
  );
  const many = remnantFindings(['a', 'b', 'c', 'd'].map((name) => left('object', name)));
  expect(of('trials', many).seen).toBe('4 of this trial could not be removed and stay (AccessDenied): a, b, c, …');
  expect(of('trials', remnantFindings([left('object', 'a')])).seen).toContain('removed and stays');
});
