import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { AgentPlace } from '../agent/agent-process.ts';
import type { JsonObject } from '../cli/run-cli.ts';
import { isWholeLine, logFiles, numberOf, rotatingLog } from './rotating-log-subject.ts';
import { killedAndBroughtBack } from './story.ts';

describe('a log writer that rotates', () => {
  test('killed and brought back: every converged checkpoint has all lines in order, without a gap', async () => {
    const made = await killedAndBroughtBack({ subject: rotatingLog, hooked: false, kills: 2, checkpoints: 4 });
    expect(made['converged']).toBeGreaterThan(5);
  });

  test('that never rests: each file of a fuzzy checkpoint is a run of whole lines, but for the end of one that is named', async () => {
    using place = await AgentPlace.make();
    await using _running = await rotatingLog.start({ volume: place.volume, place: place.work.path, rests: false });
    await using agent = place.agent(['--passes', '1']);
    const slots: number[] = [];
    for (let from = 0; slots.length < 6; ) {
      const line = await agent.until('committed', ({ consistency }) => consistency === 'fuzzy', { from });
      from = agent.lines.indexOf(line) + 1;
      slots.push(line['slot'] as number);
    }
    for (const slot of slots) {
      const copy = place.work.at(`copy-${slot}`);
      await place.work.json(['restore', '--at', String(slot), '--target', copy]);
      const { volumes } = await place.work.json(['show', '--at', String(slot)]);
      const named = JSON.stringify((volumes as JsonObject)['data'] ?? volumes);
      expect(named).toContain('app.log');
      for (const lines of logFiles(copy)) {
        const whole = lines.filter(isWholeLine);
        const numbers = whole.map(numberOf);
        expect(numbers, join(copy)).toEqual(numbers.map((_, i) => (numbers[0] ?? 0) + i));
        expect(lines.slice(0, whole.length)).toEqual(whole);
        expect(lines.length - whole.length).toBeLessThanOrEqual(1);
      }
    }
  });
});
