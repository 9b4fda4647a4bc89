import { describe, expect, it } from 'vitest';
import { isOfNamespace, writesLineage } from '../../../src/webhook/service/own-lineage.ts';
import { objectOf } from '../../support/pod-api-server.ts';

const uid = '0f7a2d3e-1111-4222-8333-444455556666';

function writes(lineage: string, status: unknown, more: { inject?: string; uid?: string } = {}): boolean {
  const pod = objectOf({
    namespace: 'team-a',
    name: 'web-0',
    uid,
    nodeName: 'node-1',
    annotations: {
      'holdfast.dev/inject': more.inject ?? 'true',
      'holdfast.dev/status': typeof status === 'string' ? status : JSON.stringify(status),
    },
  });
  return writesLineage(pod, more.uid ?? uid, lineage);
}

const status = (slot: string, lineage: string): object => ({ version: 1, slot, lineage });

describe('a pod writes', () => {
  it.each([
    ['the lineage of its status', 'prod/team-a/statefulset/db/0', status('fixed', 'prod/team-a/statefulset/db/0')],
    ['that of its node', 'prod/team-a/daemonset/log/node-1', status('node', 'prod/team-a/daemonset/log')],
    [
      'that of a number it has claimed',
      'prod/team-a/deployment/web/12',
      status('claimed', 'prod/team-a/deployment/web'),
    ],
  ])('%s', (_, lineage, said) => {
    expect(writes(lineage, said)).toBe(true);
  });

  const none = {};
  it.each<readonly [string, string, unknown, { readonly inject?: string; readonly uid?: string }]>([
    ['that of another slot', 'prod/team-a/statefulset/db/1', status('fixed', 'prod/team-a/statefulset/db/0'), none],
    ['that of another node', 'prod/team-a/daemonset/log/node-2', status('node', 'prod/team-a/daemonset/log'), none],
    ['a name where numbers are', 'prod/team-a/deployment/web/x', status('claimed', 'prod/team-a/deployment/web'), none],
    ['below its number', 'prod/team-a/deployment/web/1/2', status('claimed', 'prod/team-a/deployment/web'), none],
    [
      'a workload whose name begins alike',
      'prod/team-a/deployment/web2/1',
      status('claimed', 'prod/team-a/deployment/web'),
      none,
    ],
    ['what it only begins from', 'prod/team-a/deployment/web/0', status('seed', 'prod/team-a/deployment/web'), none],
    ['anything that did not opt in', 'a/b/c/d/0', status('fixed', 'a/b/c/d/0'), { inject: 'false' }],
    ['what another pod of its name wrote', 'a/b/c/d/0', status('fixed', 'a/b/c/d/0'), { uid: 'another' }],
    ['by a status of another version', 'a/b/c/d/0', { ...status('fixed', 'a/b/c/d/0'), version: 2 }, none],
    ['by a status that is none', 'a/b/c/d/0', 'a/b/c/d/0', none],
    ['by an empty status', '', status('fixed', ''), none],
  ])('not %s', (_, lineage, said, more) => {
    expect(writes(lineage, said, more)).toBe(false);
  });
});

it('a lineage is of the namespace that stands behind the cluster', () => {
  expect(isOfNamespace('prod/team-a/pod/app/app', 'prod', 'team-a')).toBe(true);
  for (const other of ['prod/team-ab/pod/app/app', 'prod2/team-a/pod/app/app', 'team-a/pod/app/app', 'prod/team-a']) {
    expect(isOfNamespace(other, 'prod', 'team-a'), other).toBe(false);
  }
});
