import { createHmac } from 'node:crypto';
import type { Outcome } from './explore.ts';

/**
 * The height of the prolly tree under long paths: not a protocol, so nothing is explored; the splitter of the tree is
 * run on made-up keys, level by level.
 */
export type TreeShape = {
  /** Every node but the last of its level has at least this many children: 4 by the format, 1 in the control. */
  readonly childrenMin: number;
  readonly nodeBytesTarget?: number;
  readonly nodeBytesMax?: number;
  /** The constant that the splitter adds to the key bytes of each entry. */
  readonly entryBytes?: number;
};

const levelsMax = 40;

/** How many entries each level has, from the leaves up to the root. */
export function treeLevels(keys: readonly Buffer[], shape: TreeShape): number[] {
  const { childrenMin, nodeBytesTarget = 4096, nodeBytesMax = 16_384, entryBytes = 55 } = shape;
  const levels = [keys.length];
  let level = keys;
  while (level.length > 1 && levels.length <= levelsMax) {
    const hmacKey = `k${levels.length - 1}`;
    const nodes: Buffer[] = [];
    let first: Buffer | undefined;
    let bytes = 0;
    let children = 0;
    for (const key of level) {
      first ??= key;
      const entry = key.length + entryBytes;
      bytes += entry;
      children++;
      const chance = createHmac('sha256', hmacKey).update(key).digest().readUInt32BE() / 2 ** 32;
      const isBoundary = chance < entry / nodeBytesTarget || bytes >= nodeBytesMax;
      if (!isBoundary || children < childrenMin) continue;
      nodes.push(first);
      first = undefined;
      bytes = 0;
      children = 0;
    }
    if (first !== undefined) nodes.push(first);
    level = nodes;
    levels.push(level.length);
  }
  return levels;
}

/** `count` keys of `bytes` bytes each that differ in their last 20 bytes. */
export function longKeys(count: number, bytes: number): Buffer[] {
  return Array.from({ length: count }, (_, i) => Buffer.from('x'.repeat(bytes - 20) + String(i).padStart(20, '0')));
}

/** `count` paths of 54 bytes, 100 to a directory. */
export function usualKeys(count: number): Buffer[] {
  return Array.from({ length: count }, (_, i) => {
    return Buffer.from(`dir${String(Math.floor(i / 100)).padStart(5, '0')}/f${String(i).padStart(45, '0')}`);
  });
}

/** Complete if every level is at most a quarter of the one below, or a single root; `states` is the number of entries. */
export function treeHeight(keys: readonly Buffer[], shape: TreeShape): Outcome {
  const levels = treeLevels(keys, shape);
  const tooWide = levels.findIndex((width, level) => level > 0 && width > Math.ceil((levels[level - 1] as number) / 4));
  return {
    verdict: tooWide < 0 ? 'complete' : 'violation',
    states: levels.reduce((sum, width) => sum + width, 0),
    depth: levels.length,
    violation:
      tooWide < 0
        ? undefined
        : {
            what: `NEVER-NARROWS: level ${tooWide} has ${levels[tooWide]} nodes over ${levels[tooWide - 1]}`,
            trace: levels.map((width, level) => `level ${level}: ${width}`),
          },
    stuck: new Map(),
  };
}
