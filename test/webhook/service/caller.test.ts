import { describe, expect, it } from 'vitest';
import { bearerToken, readTokenReview } from '../../../src/webhook/service/caller.ts';

describe('a token', () => {
  it('is taken from the header as it stands', () => {
    expect(bearerToken('Bearer aa.b-b.c_c')).toBe('aa.b-b.c_c');
  });

  it.each([
    ['none', undefined],
    ['another scheme', 'Basic aa.bb.cc'],
    ['something that is no token', 'Bearer hunter2'],
    ['two of them', 'Bearer aa.bb.cc aa.bb.cc'],
    ['one that is longer than any', `Bearer aa.${'b'.repeat(8192)}.cc`],
  ])('is not: %s', (_, header) => {
    expect(bearerToken(header)).toBeUndefined();
  });
});

const extra = {
  'authentication.kubernetes.io/pod-name': ['web-0'],
  'authentication.kubernetes.io/pod-uid': ['uid-1'],
};
const username = 'system:serviceaccount:team-a:default';

function review(status: object): object {
  return { kind: 'TokenReview', status: { authenticated: true, audiences: ['holdfast'], ...status } };
}

describe('a review of a token', () => {
  it('says which pod asks', () => {
    expect(readTokenReview(review({ user: { username, extra } }), 'holdfast')).toEqual({
      namespace: 'team-a',
      podName: 'web-0',
      podUid: 'uid-1',
    });
  });

  it.each<readonly [string, object]>([
    ['a token that is not valid', review({ authenticated: false, user: { username, extra } })],
    ['a token for another audience', review({ audiences: ['https://kubernetes'], user: { username, extra } })],
    ['a server that knows no audiences', review({ audiences: undefined, user: { username, extra } })],
    ['a person', review({ user: { username: 'jane', extra } })],
    ['a name that only looks like an account', review({ user: { username: `x${username}`, extra } })],
    ['an account with another part', review({ user: { username: `${username}:more`, extra } })],
    ['a token of no pod', review({ user: { username } })],
    [
      'a token of a pod without its UID',
      review({ user: { username, extra: { 'authentication.kubernetes.io/pod-name': ['web-0'] } } }),
    ],
    [
      'two pods',
      review({ user: { username, extra: { ...extra, 'authentication.kubernetes.io/pod-uid': ['a', 'b'] } } }),
    ],
    ['a user of another form', review({ user: [] })],
    ['no status', { kind: 'TokenReview' }],
  ])('says of %s that nobody is known to ask', (_, object) => {
    expect(readTokenReview(object, 'holdfast')).toBe('unknown');
  });

  it.each([null, 'text', []])('that is %j says nothing', (object) => {
    expect(readTokenReview(object, 'holdfast')).toBe('unanswered');
  });
});
