import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/edge/host/system-clock.ts';
import { InClusterApi, inClusterPlaces } from '../../../src/edge/kube/in-cluster-api.ts';
import { type Anchor, parseAnchor, printAnchor } from '../../../src/engine/model/anchor.ts';
import { type LineageName, toLineageName } from '../../../src/engine/model/ids.ts';
import { anchorName, AnchorStore, type ReportOutcome } from '../../../src/webhook/service/anchor-store.ts';
import { PodApiServer } from '../../support/pod-api-server.ts';

const lineage = toLineageName('prod/team-a/statefulset/db/0');
const key = `holdfast/${anchorName(lineage)}`;

let server: PodApiServer;
let api: InClusterApi;
beforeEach(async () => {
  server = await PodApiServer.start();
  api = new InClusterApi(inClusterPlaces(server.env));
});
afterEach(async () => {
  api[Symbol.dispose]();
  await server[Symbol.asyncDispose]();
});

function anchorAt(slot: number, digit = 'a'): Anchor {
  return parseAnchor(`${slot}:${digit.repeat(64)}`);
}

function store(): AnchorStore {
  return new AnchorStore({ api, clock: systemClock, namespace: 'holdfast' });
}

async function report(into: AnchorStore, anchor: Anchor): Promise<string> {
  const { outcome, anchor: kept }: ReportOutcome = await into.report({
    lineage,
    anchor,
    namespace: 'team-a',
    podName: 'db-0',
  });
  return `${outcome} ${kept.slot}`;
}

describe('an anchor', () => {
  it('is kept, for every replica, with what people need to know of it', async () => {
    const [one, other] = [store(), store()];
    expect(await one.find(lineage)).toBeUndefined();
    expect(await report(one, anchorAt(4))).toBe('kept 4');
    expect(await other.find(lineage)).toEqual(anchorAt(4));
    expect(server.configMaps.get(key)).toMatchObject({
      metadata: { labels: { 'holdfast.dev/anchor-of': 'team-a' } },
      data: { lineage, anchor: printAnchor(anchorAt(4)), reportedBy: 'db-0' },
    });
  });

  it('never falls, whoever reports', async () => {
    const [one, other] = [store(), store()];
    await report(one, anchorAt(4));
    await report(other, anchorAt(9));
    // This one does not know of it.
    expect(await report(one, anchorAt(6))).toBe('kept 9');
    expect(await report(one, anchorAt(3))).toBe('kept 9');
    expect(server.anchors).toEqual({ [lineage]: printAnchor(anchorAt(9)) });
  });

  it('is not replaced by another record of the same slot', async () => {
    await report(store(), anchorAt(4));
    expect(await report(store(), anchorAt(4, 'b'))).toBe('conflict 4');
    expect(await report(store(), anchorAt(4))).toBe('kept 4');
    expect(server.anchors).toEqual({ [lineage]: printAnchor(anchorAt(4)) });
  });

  it('is written without a read while nobody else writes', async () => {
    const one = store();
    await report(one, anchorAt(4));
    server.asked.length = 0;
    await report(one, anchorAt(5));
    expect(server.asked.map(({ method }) => method)).toEqual(['PUT']);
  });

  it('of two that write at once the higher one stays', async () => {
    const [one, other] = [store(), store()];
    let met = false;
    server.beforeWrite = () => {
      if (met) return;
      met = true;
      // In the moment between the first look of one and its write.
      server.configMaps.set(key, {
        metadata: { name: anchorName(lineage), resourceVersion: 'new' },
        data: { lineage, anchor: printAnchor(anchorAt(7)) },
      });
    };
    expect(await report(one, anchorAt(5))).toBe('kept 7');
    expect(await report(other, anchorAt(8))).toBe('kept 8');
    expect(server.anchors).toEqual({ [lineage]: printAnchor(anchorAt(8)) });
  });

  it('that a person has deleted is made anew by the next report', async () => {
    const one = store();
    await report(one, anchorAt(4));
    server.configMaps.delete(key);
    expect(await one.find(lineage)).toBeUndefined();
    expect(await report(one, anchorAt(5))).toBe('kept 5');
    // Of a lineage that began anew, too.
    server.configMaps.delete(key);
    expect(await report(one, anchorAt(1))).toBe('kept 1');
    expect(server.anchors).toEqual({ [lineage]: printAnchor(anchorAt(1)) });
  });

  it.each([
    ['of another lineage', { lineage: 'prod/team-a/statefulset/db/1', anchor: printAnchor(anchorAt(99)) }],
    ['that somebody has written over', { lineage, anchor: 'nothing' }],
    ['without anything', undefined],
  ])('%s says nothing, and is replaced', async (_, data) => {
    server.configMaps.set(key, {
      metadata: { name: anchorName(lineage), resourceVersion: '7' },
      ...(data === undefined ? {} : { data }),
    });
    expect(await store().find(lineage)).toBeUndefined();
    expect(await report(store(), anchorAt(5))).toBe('kept 5');
  });

  it.each([
    [403, 'E_CLUSTER_REFUSED'],
    [500, 'E_CLUSTER_UNREACHABLE'],
  ])('is not known when the API server answers %d', async (status, code) => {
    server.answer = () => status;
    await expect(store().find(lineage)).rejects.toMatchObject({ code });
    await expect(report(store(), anchorAt(5))).rejects.toMatchObject({ code });
  });

  it('of a Job goes a week after its last report, and no other does', async () => {
    const at = (days: number): AnchorStore => {
      const clock = { ...systemClock, nowMs: () => systemClock.nowMs() + days * 86_400_000 };
      return new AnchorStore({ api, clock, namespace: 'holdfast' });
    };
    const names = ['job/a/0', 'job/b/0', 'job/c/1', 'pod/x/x', 'deployment/job/0'].map((name) =>
      toLineageName(`prod/team-a/${name}`),
    ) as [LineageName, LineageName, LineageName, LineageName, LineageName];
    for (const each of names) {
      await at(0).report({ lineage: each, anchor: anchorAt(2), namespace: 'team-a', podName: 'x' });
    }
    await at(5).report({ lineage: names[1], anchor: anchorAt(3), namespace: 'team-a', podName: 'x' });
    // Somebody else's.
    server.configMaps.set('holdfast/settings', { metadata: { name: 'settings', resourceVersion: '1' } });
    expect(await at(6).sweep()).toBe(0);
    const key = `holdfast/${anchorName(names[0])}`;
    server.beforeWrite = () => {
      const kept = server.configMaps.get(key);
      // In the moment before it is taken away it is reported once more.
      if (kept === undefined) return;
      server.configMaps.set(key, { ...kept, metadata: { ...kept.metadata, resourceVersion: 'new' } });
    };
    expect(await at(8).sweep()).toBe(1);
    const left = Object.keys(server.anchors).filter((each) => each !== '');
    expect(left.sort()).toEqual(names.filter((each) => each !== names[2]).sort());
  });

  it('is not written for ever against others', async () => {
    server.beforeWrite = () => {
      const version = String(Math.random());
      server.configMaps.set(key, { metadata: { name: anchorName(lineage), resourceVersion: version } });
    };
    await expect(report(store(), anchorAt(5))).rejects.toMatchObject({ code: 'E_CLUSTER_UNREACHABLE' });
  });
});
