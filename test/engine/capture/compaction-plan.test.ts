import { describe, expect, test } from 'vitest';
import { defaultCompaction, mergeCount, planCompaction } from '../../../src/engine/capture/compaction-plan.ts';
import type { PackEntry } from '../../../src/engine/format/pack-entry.ts';
import { live } from '../../support/pack-life.ts';

const mebibyte = 1024 * 1024;

function pack(slot: number, more: Partial<PackEntry> = {}): PackEntry {
  const plainBytes = more.plainBytes ?? 200_000;
  return {
    origin: 0,
    slot,
    epoch: 1,
    pack: 0,
    salt8: '00000000',
    bytes: 100_000,
    footerBytes: 200,
    inlined: false,
    plainBytes,
    liveBytes: plainBytes,
    ...more,
  };
}

const slots = (plan: ReturnType<typeof planCompaction>): number[] | undefined =>
  plan?.targets.map(({ slot }) => slot).sort((a, b) => a - b);
const upTo = (count: number, more: Partial<PackEntry> = {}): PackEntry[] =>
  Array.from({ length: count }, (_, i) => pack(i + 2, more));

describe('what a checkpoint compacts', () => {
  test('is nothing before 16 packs of one size class are there, then all of them', () => {
    expect(planCompaction(upTo(mergeCount - 1), defaultCompaction, mebibyte)).toBeUndefined();
    const plan = planCompaction(upTo(mergeCount), defaultCompaction, mebibyte);
    expect(plan).toMatchObject({ kind: 'merge', oldestSlot: 2 });
    expect(slots(plan)).toEqual(upTo(mergeCount).map(({ slot }) => slot));
    const mixed = [...upTo(10), ...Array.from({ length: 10 }, (_, i) => pack(20 + i, { bytes: mebibyte }))];
    expect(planCompaction(mixed, defaultCompaction, mebibyte)).toBeUndefined();
  });

  test('takes packs inside records first, and the newest, as many as may be moved', () => {
    const limits = { ...defaultCompaction, movedBytesMax: 5 * 200_000 };
    const packs = upTo(20).map((entry) => (entry.slot < 5 ? { ...entry, inlined: true } : entry));
    expect(slots(planCompaction(packs, limits, mebibyte))).toEqual([2, 3, 4, 20, 21]);
    expect(planCompaction(packs, { ...limits, movedBytesMax: 3 * 200_000 }, mebibyte)).toBeUndefined();
  });

  test('leaves what would take too long to look for', () => {
    const packs = upTo(40);
    const limits = { ...defaultCompaction, walkedBytesMax: 20 * 200_000 };
    expect(slots(planCompaction(packs, limits, 1000 * mebibyte))?.[0]).toBe(22);
    expect(slots(planCompaction(packs, limits, mebibyte))?.[0]).toBe(2);
  });

  test('rewrites packs that are less than half alive, oldest first, when that frees what must be read', () => {
    const large = { bytes: 20 * mebibyte, plainBytes: 40 * mebibyte };
    const packs = [
      pack(2, { ...large, liveBytes: 10 * mebibyte }),
      pack(3, { ...large, liveBytes: 21 * mebibyte }),
      pack(4, { ...large, liveBytes: 0 }),
    ];
    expect(slots(planCompaction(packs, defaultCompaction, 50 * mebibyte))).toEqual([2, 4]);
    expect(planCompaction(packs.slice(0, 2), defaultCompaction, 50 * mebibyte)).toBeUndefined();
    expect(slots(planCompaction(packs, { ...defaultCompaction, movedBytesMax: mebibyte }, 30 * mebibyte))).toEqual([4]);
  });

  test('never touches packs of other lineages', () => {
    expect(planCompaction(upTo(60, { origin: 1 }), defaultCompaction, mebibyte)).toBeUndefined();
    expect(planCompaction(upTo(3, { origin: 1, liveBytes: 0 }), defaultCompaction, 0)).toBeUndefined();
  });
});

test('in a fortnight of checkpoints every 30 s, packs stay few and are written about twice', () => {
  const life = live({ checkpoints: 14 * 2880, nodes: 4000, changed: 10, seed: 'fortnight' });
  expect(life.packsMax).toBeLessThan(100);
  expect(life.movedBytes).toBeLessThan(4 * life.capturedBytes);
  expect(life.largestMoveBytes).toBeLessThan(2 * defaultCompaction.movedBytesMax);
});
