import { describe, expect, it } from 'vitest';
import { podState, podStateIn } from '../../../src/webhook/service/pod-state.ts';
import { objectOf, type TestPod } from '../../support/pod-api-server.ts';

const uid = '0f7a2d3e-1111-4222-8333-444455556666';
const asked = { namespace: 'team-a', name: 'web-0', uid };
const found = (more: Partial<TestPod> = {}): { status: number; object: unknown } => ({
  status: 200,
  object: objectOf({ ...asked, ...more }),
});
const missing = (details: object = { kind: 'pods', name: 'web-0' }, more: object = {}): object => ({
  status: 404,
  object: { kind: 'Status', reason: 'NotFound', details, ...more },
});

describe('a pod', () => {
  it.each<readonly [string, { status: number; object: unknown }, string]>([
    ['that is not there', missing() as never, 'gone'],
    ['whose name another one has', found({ uid: '0f7a2d3e-1111-4222-8333-444455550000' }), 'gone'],
    ['that runs', found({ phase: 'Running' }), 'alive'],
    ['that has not begun', found(), 'alive'],
    ['that was told to end', found({ phase: 'Running', isEnding: true }), 'terminating'],
    ['that has ended, and is still an object', found({ phase: 'Failed' }), 'gone'],
    ['that is done', found({ phase: 'Succeeded', isEnding: true }), 'gone'],
  ])('%s is %s', (_, answer, state) => {
    expect(podStateIn(answer, asked)).toBe(state);
  });

  it.each<readonly [string, { status: number; object: unknown }]>([
    ['a path that is missing', missing(undefined, { details: undefined }) as never],
    ['a namespace that is missing', missing({ kind: 'namespaces', name: 'team-a' }) as never],
    ['another pod that is missing', missing({ kind: 'pods', name: 'web-1' }) as never],
    ['a proxy', { status: 404, object: null }],
    ['a page', { status: 200, object: null }],
    ['an error', { status: 500, object: { kind: 'Status' } }],
    ['a refusal', { status: 403, object: { kind: 'Status', reason: 'Forbidden' } }],
    ['a list', { status: 200, object: { kind: 'PodList', items: [] } }],
    ['another pod', found({ name: 'web-1' })],
    ['a pod of another namespace', found({ namespace: 'team-b' })],
    ['a pod without a UID', found({ uid: '' })],
  ])('is not gone by the answer of %s', (_, answer) => {
    expect(podStateIn(answer, asked)).toBe('unknown');
  });

  it.each([
    ['a holder that is no pod', { uid: '0123456789abcdef0123456789abcdef' }],
    ['a name that leads elsewhere', { name: '../../../secrets/key' }],
    ['no name', { name: '' }],
  ])('is not asked for of %s', async (_, more) => {
    const api = {
      request: () => {
        throw new Error('asked');
      },
    };
    expect(await podState(api, { ...asked, ...more })).toBe('unknown');
  });
});
