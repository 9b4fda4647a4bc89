import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AgentPlace } from './agent-process.ts';

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
