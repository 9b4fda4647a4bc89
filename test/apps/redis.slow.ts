import { describe, expect, test } from 'vitest';
import { redis } from './redis-subject.ts';
import { killedAndBroughtBack } from './story.ts';

describe('Redis with an append-only file, killed and brought back', () => {
  test('that is held by a hook: every checkpoint is quiesced, loads whole and has what was written before', async () => {
    const made = await killedAndBroughtBack({ subject: redis, hooked: true, kills: 2, checkpoints: 4 });
    expect(made).toMatchObject({ converged: 0, fuzzy: 0 });
  });

  test('that nobody holds: every converged checkpoint loads whole and has what was written before', async () => {
    const made = await killedAndBroughtBack({ subject: redis, hooked: false, kills: 2, checkpoints: 4 });
    expect(made['converged']).toBeGreaterThan(5);
  });
});
