/** Quantities as Kubernetes writes them: `250m`, `0.5`, `128Mi`, `1e3`, `2G`. */

const powers: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** In units (cores, bytes), never negative; undefined for what is no quantity or beyond 2^63. Exact enough to compare, not to add up. */
export function parseQuantity(text: string): number | undefined {
  const match = /^\+?(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,3}))?$/.exec(text);
  if (match === null) return undefined;
  const factor = match[3] === undefined ? (powers[match[2] ?? ''] as number) : 10 ** Number(match[3]);
  const value = Number(match[1]) * factor;
  return value <= 2 ** 63 ? value : undefined;
}
