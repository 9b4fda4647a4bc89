import { expect, test } from 'vitest';
import { gitRepository } from './git-subject.ts';
import { killedAndBroughtBack } from './story.ts';

test('a git repository under commits, killed and brought back: every converged checkpoint passes fsck and has the commits before', async () => {
  const made = await killedAndBroughtBack({ subject: gitRepository, hooked: false, kills: 2, checkpoints: 4 });
  expect(made['converged']).toBeGreaterThan(5);
});
