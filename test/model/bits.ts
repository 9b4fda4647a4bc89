/** A set of small numbers (slots, packs, pods) as the bits of one 32-bit integer. */
export type Bits = number;

export const none: Bits = 0;

export function has(set: Bits, item: number): boolean {
  return ((set >>> item) & 1) === 1;
}

export function withItem(set: Bits, item: number): Bits {
  return (set | (1 << item)) >>> 0;
}

export function without(set: Bits, item: number): Bits {
  return (set & ~(1 << item)) >>> 0;
}

export function union(a: Bits, b: Bits): Bits {
  return (a | b) >>> 0;
}

/** The items of `a` that are not in `b`. */
export function minus(a: Bits, b: Bits): Bits {
  return (a & ~b) >>> 0;
}

export function isSubset(a: Bits, b: Bits): boolean {
  return (a & ~b) === 0;
}

/** The smallest item of a set that is not empty. */
export function lowest(set: Bits): number {
  return 31 - Math.clz32(set & -set);
}

export function itemsOf(set: Bits): number[] {
  const items: number[] = [];
  for (let rest = set; rest !== 0; rest = without(rest, lowest(rest))) items.push(lowest(rest));
  return items;
}
