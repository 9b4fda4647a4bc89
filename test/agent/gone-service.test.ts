import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { freePort } from '../servers/s3-server.ts';
import { GoneServer } from '../support/gone-server.ts';
import { AgentPlace } from './agent-process.ts';

test('an agent whose service is silent says so once, and goes on', async () => {
  using place = await AgentPlace.make();
  writeFileSync(join(place.volume, 'file'), 'one');
  await using agent = place.agent(['--service', `http://127.0.0.1:${await freePort()}`]);
  expect(await agent.until('service-silent')).toMatchObject({ message: expect.stringContaining('count as alive') });
  await agent.until('committed');
  expect(await agent.stop()).toMatchObject({ code: 0 });
  expect(agent.events('service-silent')).toHaveLength(1);
});

test('an agent whose own pod is gone does not claim, and ends with a code of its own', async () => {
  await using server = await GoneServer.start();
  server.pods.set('pod-1', 'gone');
  using place = await AgentPlace.make();
  writeFileSync(join(place.volume, 'file'), 'one');
  await using agent = place.agent(['--service', server.address]);
  expect(await agent.exit).toEqual({ code: 36, signal: null });
  expect(agent.events('failed')).toMatchObject([{ code: 'E_POD_GONE' }]);
  expect(agent.events('claimed')).toEqual([]);
});
