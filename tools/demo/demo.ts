/**
 * `npm run demo`: two stories on a real disk, first by hand with a directory, then with the init container and the agent of a pod.
 * Everything happens in a directory for temporary files, which is gone afterwards. Exit code 0 only if all that came back is equal.
 */
import fs from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Application } from './application.ts';
import { directoryStory } from './directory-story.ts';
import { podStory, type Running } from './pod-story.ts';
import { Checks, say, styled } from './terminal.ts';

const began = performance.now();
const place = fs.mkdtempSync(join(tmpdir(), 'holdfast-demo-'));
const applications: Application[] = [];
const agents: Running[] = [];
const remove = (): void => fs.rmSync(place, { recursive: true, force: true });
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const agent of agents) agent.child.kill('SIGKILL');
    remove();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  });
}
const env: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
  HOLDFAST_STORE: `file:${join(place, 'store')}`,
  HOLDFAST_KEY_FILE: join(place, 'repository.key'),
  HOLDFAST_LINEAGE: 'demo/shop/0',
  HOLDFAST_STATE_DIR: join(place, 'state'),
};
const checks = new Checks();
try {
  say(`Holdfast on ${availableParallelism()} processors, Node ${process.versions.node}, in ${place}`);
  await directoryStory({ place, env }, applications, checks);
  await podStory({ place, env: { ...env, HOLDFAST_LINEAGE: 'demo/pod/0' } }, applications, agents, checks);
} finally {
  for (const agent of agents) await agent.kill();
  for (const application of applications) await application.kill();
  remove();
}
const seconds = ((performance.now() - began) / 1000).toFixed(1);
if (checks.failures.length > 0) {
  say(styled('red', `\nNOT PROVEN: ${checks.failures.join('; ')}`));
  process.exitCode = 1;
} else {
  say(styled('green', `\nProven: everything that was acknowledged came back, byte for byte. ${seconds} s.`));
}
