import { writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AgentPlace } from './agent-process.ts';

test('gives its metrics on a port of its own, and nothing else there', async () => {
  using place = await AgentPlace.make();
  const port = await freePort();
  await using agent = place.agent(['--metrics-port', String(port)]);
  await agent.until('committed');
  const ask = (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}${path}`, init);
  const answer = await ask('/metrics');
  expect(answer.status).toBe(200);
  expect(await answer.text()).toMatch(/^holdfast_objective_met 1$/m);
  for (const path of ['/v1/status', '/v1/receipt', '/healthz']) expect((await ask(path)).status, path).toBe(404);
  expect((await ask('/v1/checkpoint', { method: 'POST' })).status).toBe(404);
});

/** One that nobody has, a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('status --running says whether the agent has its lineage, for who waits for it', async () => {
  using place = await AgentPlace.make();
  const running = ['status', '--running', '--state-dir', place.stateOf('pod-1')];
  expect(await place.work.error(running)).toMatchObject({ code: 'E_STATE_DIR' });
  await using agent = place.agent([]);
  await agent.until('claimed');
  // What is claimed is said a moment before the phase is another.
  await expect.poll(async () => (await place.work.run(running)).code).toBe(0);
  // One whose store is not there has none.
  await using waiting = place.agent(['--store', `file:${place.work.at('nowhere')}`], { pod: 'pod-2' });
  await waiting.until('store-waiting');
  const error = await place.work.error(['status', '--running', '--state-dir', place.stateOf('pod-2')]);
  expect(error).toMatchObject({ code: 'E_BLOCKED', message: 'the agent is starting' });
});

test('trigger has an agent take a checkpoint before its time, and says when there was nothing to do', async () => {
  using place = await AgentPlace.make();
  await using agent = place.agent(['--schedule', '1h']);
  await agent.until('committed');
  writeFileSync(join(place.volume, 'new'), 'new');
  const trigger = ['trigger', '--state-dir', place.stateOf('pod-1')];
  expect(await place.work.json(trigger)).toMatchObject({ outcome: 'committed', newest: { slot: 3, files: 1 } });
  expect(await place.work.json(trigger)).toMatchObject({ outcome: 'unchanged', newest: { slot: 3 } });
  expect(await place.work.run(trigger)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('nothing has changed'),
  });
  await agent.stop();
  expect(await place.work.error(trigger)).toMatchObject({ code: 'E_STATE_DIR' });
});
