/** The newest checkpoint known outside of the store: agent, service and init container as processes, and a store that is set back. */
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AgentPlace, AgentProcess } from '../agent/agent-process.ts';
import { PodApiServer } from '../support/pod-api-server.ts';
import { someSettings } from '../webhook/pods.ts';
import { startWebhookProcess, type WebhookProcess } from '../webhook/webhook-process.ts';
import { Pod, type Rehydrated } from './pod.ts';

const lineage = 'prod/team-a/statefulset/db/0';
const uidOf = (digit: number): string => `0f7a2d3e-1111-4222-8333-44445555666${digit}`;

let api: PodApiServer;
let webhook: WebhookProcess;
let place: AgentPlace;
let env: Readonly<Record<string, string>>;
beforeEach(async () => {
  api = await PodApiServer.start();
  webhook = await startWebhookProcess(someSettings, ['--pod-service', 'holdfast'], api.env);
  place = await AgentPlace.make();
  env = {
    HOLDFAST_LINEAGE: lineage,
    HOLDFAST_SERVICE: `https://127.0.0.1:${webhook.port}`,
    HOLDFAST_SERVICE_CA_FILE: webhook.certFile,
    HOLDFAST_SERVICE_TOKEN_FILE: place.work.at('token'),
  };
});
afterEach(async () => {
  place[Symbol.dispose]();
  await webhook[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

/** A pod of the StatefulSet, whose token lies where its containers look. */
function pod(digit: number): Pod {
  const status = JSON.stringify({ version: 1, slot: 'fixed', lineage });
  const annotations = { 'holdfast.dev/inject': 'true', 'holdfast.dev/status': status };
  // It has the name of the one before.
  const token = api.addCaller({ namespace: 'team-a', name: 'db-0', uid: uidOf(digit), annotations });
  writeFileSync(place.work.at('token'), token);
  return new Pod(place.work, uidOf(digit));
}

const rehydrate = (of: Pod, more: readonly string[] = []): Promise<Rehydrated> =>
  of.rehydrate(['--pod-name', 'db-0', ...more], { env });

function agentOf({ uid, data, state }: Pod): AgentProcess {
  const args = ['--volume', `data=${data}`, '--pod-uid', uid, '--pod-name', 'db-0', '--state-dir', state];
  const { work } = place;
  return new AgentProcess([...args, '--schedule', '1h', '--grace', '10s'], { ...work.env, ...env }, work.path);
}

/** An agent from its start to its end. */
async function agentLife(of: Pod): Promise<void> {
  await using agent = agentOf(of);
  await agent.until('committed');
  expect(await agent.stop()).toMatchObject({ code: 0 });
  expect(agent.events('anchor-unkept')).toEqual([]);
}

const logDirectory = (): string => {
  const files = readdirSync(place.work.at('store'), { recursive: true, encoding: 'utf8' });
  const log = files.find((path) => path.endsWith('/log'));
  return place.work.at('store', log ?? 'none');
};

test('a store that hides what an agent has reported is no first boot, until it shows it or a person says so', async () => {
  const first = pod(1);
  expect((await rehydrate(first)).receipt).toMatchObject({ outcome: 'empty', policy: { answer: 'first-boot' } });
  first.write('ledger', 'kept');
  await agentLife(first);
  const names = readdirSync(logDirectory()).sort();
  // The newest stands first: the seal, which was reported at the end.
  expect(api.anchors[lineage]).toMatch(new RegExp(`^${names.length}:`));

  // All of it is gone.
  renameSync(place.work.at('store', 'v1', 'l'), place.work.at('hidden'));
  const blocked = await rehydrate(pod(2), ['--on-missing', 'block:1s']);
  expect(blocked).toMatchObject({ code: 33, receipt: { policy: { answer: 'missing' } } });
  expect(blocked.error?.remedy).toContain('take its anchor away');
  // It has left its receipt there.
  rmSync(place.work.at('store', 'v1', 'l'), { recursive: true });
  renameSync(place.work.at('hidden'), place.work.at('store', 'v1', 'l'));

  // Only the newest is.
  const newest = join(logDirectory(), names[0] as string);
  renameSync(newest, place.work.at('hidden'));
  const older = await rehydrate(pod(3), ['--on-missing', 'block:1s']);
  expect(older).toMatchObject({ code: 33, receipt: { policy: { answer: 'missing' } } });
  expect(older.error?.remedy).toContain('take its anchor away');
  renameSync(place.work.at('hidden'), newest);

  const next = pod(4);
  expect((await rehydrate(next)).receipt).toMatchObject({ outcome: 'restored' });
  expect(next.read('ledger')).toBe('kept');
  next.write('ledger', 'more');
  await agentLife(next);

  // A lineage that was deleted on purpose begins anew once its anchor is taken away.
  rmSync(place.work.at('store', 'v1', 'l'), { recursive: true });
  api.configMaps.clear();
  expect((await rehydrate(pod(5))).receipt).toMatchObject({ outcome: 'empty', policy: { answer: 'first-boot' } });
});

test('without the service agents save and pods start, and both say what is not known', async () => {
  await webhook.end('SIGKILL');
  const first = pod(1);
  expect((await rehydrate(first)).code).toBe(0);
  first.write('ledger', 'kept');
  await using agent = agentOf(first);
  await agent.until('committed');
  expect(await agent.until('anchor-unkept')).toMatchObject({ level: 'warn', outcome: 'unanswered' });
  expect(await agent.stop()).toMatchObject({ code: 0 });
  const next = pod(2);
  const ran = await rehydrate(next);
  expect(ran.receipt).toMatchObject({ outcome: 'restored' });
  expect(next.read('ledger')).toBe('kept');
  expect(ran.stderr).toContain('which checkpoint was the last is not known');
});
