import { describe, expect, test } from 'vitest';
import { sqlite } from './sqlite-subject.ts';
import { killedAndBroughtBack } from './story.ts';

describe('SQLite in WAL mode, killed and brought back', () => {
  test('that is held by a hook: every checkpoint is quiesced, opens whole and has what was committed before', async () => {
    const made = await killedAndBroughtBack({ subject: sqlite, hooked: true, kills: 2, checkpoints: 4 });
    expect(made).toMatchObject({ converged: 0, fuzzy: 0 });
  });

  test('that nobody holds: every converged checkpoint opens whole and has what was committed before', async () => {
    const made = await killedAndBroughtBack({ subject: sqlite, hooked: false, kills: 2, checkpoints: 4 });
    expect(made['converged']).toBeGreaterThan(5);
  });
});
