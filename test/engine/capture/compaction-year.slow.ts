import { expect, test } from 'vitest';
import { live } from '../../support/pack-life.ts';

test('in a year of checkpoints every 30 s, live packs stay below 300', () => {
  const life = live({ checkpoints: 365 * 2880, nodes: 25_000, changed: 10, seed: 'year' });
  expect(life.packsMax).toBeLessThan(300);
  expect(life.movedBytes).toBeLessThan(6 * life.capturedBytes);
}, 600_000);
