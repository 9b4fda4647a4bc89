import type { ContenderName } from './contenders.ts';
import type { SetName } from './data-sets.ts';
import type { Phase } from './settings.ts';

/**
 * What the benchmark judges: the rows, their targets, and how samples become a verdict. Plain data and pure functions.
 */

/** How an S3 server is reached: as it is on loopback, or with a delay before each request. */
export type Network = 'direct' | 'delayed';

/** What is added to each request where the network is `delayed`. */
export const delayMs = 20;

/** One timed run of one contender. */
export interface Sample {
  readonly set: SetName;
  /** Absent where the repository is a directory. */
  readonly network?: Network;
  readonly phase: Phase;
  readonly round: number;
  readonly contender: ContenderName;
  /** Why there are no figures; a run that failed spoils its row. */
  readonly failed?: string;
  readonly figures?: Figures;
}

export interface Figures {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
  /** CPU time of everything else on the machine meanwhile: tells whether the figures can be trusted. */
  readonly otherCpuSeconds: number;
  /** Size of the repository's files after the run; absent for a restore. */
  readonly storedBytes?: number;
  /** How much the run added to that; absent for a restore. */
  readonly newBytes?: number;
  /** Requests that the server was sent, by kind; counted by the proxy that delays them, and absent without it. */
  readonly requests?: RequestCounts;
  /** Those of them that create, change or delete something. */
  readonly writeRequests?: number;
  /** When what was asked for first was complete, as a share of the run's wall time; of a restore with such files. */
  readonly firstShare?: number;
}

export const requestKinds = ['PUT', 'PART', 'BEGIN', 'COMPLETE', 'GET', 'HEAD', 'LIST', 'DELETE'] as const;

export type RequestKind = (typeof requestKinds)[number];

export type RequestCounts = Readonly<Partial<Record<RequestKind, number>>>;

export type Metric = Exclude<keyof Figures, 'otherCpuSeconds' | 'requests'>;

/** Upper bounds: of the ratio to restic, or of the figure itself. */
export interface Targets {
  /** Missing it fails the gate. */
  readonly floor?: number;
  readonly must?: number;
  readonly aim?: number;
}

export interface Row {
  readonly set: SetName;
  /** Absent where the repository is a directory. */
  readonly network?: Network;
  readonly phase: Phase;
  readonly metric: Metric;
  /** `ratio` is against restic; `figure` judges what Holdfast took by itself. */
  readonly judge: 'ratio' | 'figure';
  readonly targets: Targets;
}

function ratio(set: SetName, phase: Phase, metric: Metric, targets: Targets = {}): Row {
  return { set, phase, metric, judge: 'ratio', targets };
}

/** In the order of the table. */
export const rows: readonly Row[] = [
  ratio('a', 'first', 'wallSeconds', { floor: 0.8, must: 0.5, aim: 0.33 }),
  ratio('a', 'first', 'cpuSeconds', { must: 0.5, aim: 0.33 }),
  ratio('a', 'first', 'peakBytes', { floor: 1.2, must: 1, aim: 0.75 }),
  ratio('a', 'first', 'storedBytes', { floor: 1.05, must: 1.02, aim: 0.99 }),
  ratio('b', 'first', 'wallSeconds', { floor: 0.8, must: 0.5, aim: 0.33 }),
  ratio('b', 'first', 'cpuSeconds', { must: 0.5, aim: 0.33 }),
  ratio('b', 'first', 'peakBytes', { floor: 1.2 }),
  ratio('b', 'first', 'storedBytes', { floor: 1.05, must: 0.92, aim: 0.88 }),
  ratio('c', 'first', 'wallSeconds', { floor: 0.8, must: 0.5, aim: 0.3 }),
  ratio('c', 'first', 'cpuSeconds'),
  ratio('c', 'first', 'peakBytes', { floor: 1.2, must: 0.6, aim: 0.35 }),
  ratio('c', 'first', 'storedBytes', { floor: 1.05, must: 0.65, aim: 0.55 }),

  ratio('a', 'level3', 'wallSeconds', { must: 0.55 }),
  ratio('a', 'level3', 'cpuSeconds', { must: 0.55 }),
  ratio('a', 'level3', 'storedBytes', { must: 0.96, aim: 0.93 }),
  ratio('b', 'level3', 'wallSeconds', { must: 0.55 }),
  ratio('b', 'level3', 'cpuSeconds', { must: 0.55 }),
  ratio('b', 'level3', 'storedBytes', { must: 0.84, aim: 0.8 }),
  ratio('c', 'level3', 'wallSeconds', { must: 0.55 }),
  ratio('c', 'level3', 'cpuSeconds', { must: 0.55 }),
  ratio('c', 'level3', 'storedBytes', { must: 0.6, aim: 0.5 }),

  ratio('a', 'incremental', 'wallSeconds'),
  ratio('a', 'incremental', 'peakBytes', { floor: 1.2 }),
  ratio('b', 'incremental', 'wallSeconds', { must: 0.3, aim: 0.18 }),
  ratio('b', 'incremental', 'peakBytes', { floor: 1.2 }),
  ratio('c', 'incremental', 'wallSeconds', { floor: 0.5, must: 0.2, aim: 0.08 }),
  ratio('c', 'incremental', 'peakBytes', { floor: 1.2 }),
  { set: 'c', phase: 'incremental', metric: 'newBytes', judge: 'figure', targets: { must: 150_000, aim: 30_000 } },

  ratio('a', 'restore', 'wallSeconds', { floor: 0.8, must: 0.75, aim: 0.5 }),
  ratio('a', 'restore', 'peakBytes', { floor: 1.2, must: 1, aim: 0.75 }),
  ratio('b', 'restore', 'wallSeconds', { floor: 0.8, must: 0.75, aim: 0.55 }),
  ratio('b', 'restore', 'peakBytes', { floor: 1.2, must: 1, aim: 0.75 }),
  ratio('c', 'restore', 'wallSeconds', { floor: 0.8 }),
  ratio('c', 'restore', 'peakBytes', { floor: 1.2 }),

  { set: 'a', phase: 'restoreFirst', metric: 'firstShare', judge: 'figure', targets: { must: 0.2, aim: 0.05 } },

  ratio('sqlite', 'sqlite', 'newBytes', { floor: 1.05, must: 0.25, aim: 0.12 }),
];

function s3Ratio(network: Network, set: SetName, phase: Phase, metric: Metric, targets: Targets = {}): Row {
  return { ...ratio(set, phase, metric, targets), network };
}

/** With `--store s3`, in the order of the table. */
export const s3Rows: readonly Row[] = [
  s3Ratio('direct', 'a', 'first', 'wallSeconds', { floor: 0.8, must: 0.5 }),
  s3Ratio('direct', 'a', 'first', 'peakBytes', { must: 1.2 }),
  s3Ratio('direct', 'b', 'first', 'wallSeconds', { floor: 0.8, must: 0.5 }),
  s3Ratio('direct', 'b', 'first', 'peakBytes'),
  s3Ratio('direct', 'a', 'incremental', 'wallSeconds'),
  s3Ratio('direct', 'b', 'incremental', 'wallSeconds'),
  s3Ratio('direct', 'a', 'restore', 'wallSeconds', { floor: 0.8, must: 0.75 }),
  s3Ratio('direct', 'a', 'restore', 'peakBytes', { must: 1.2 }),
  s3Ratio('direct', 'b', 'restore', 'wallSeconds', { floor: 0.8, must: 0.75 }),
  s3Ratio('direct', 'b', 'restore', 'peakBytes'),

  s3Ratio('delayed', 'a', 'first', 'wallSeconds', { floor: 0.8, must: 0.5 }),
  s3Ratio('delayed', 'b', 'first', 'wallSeconds', { floor: 0.8, must: 0.5 }),
  s3Ratio('delayed', 'a', 'incremental', 'wallSeconds'),
  s3Ratio('delayed', 'b', 'incremental', 'wallSeconds', { floor: 0.8, must: 0.35, aim: 0.2 }),
  steadyWrites('a'),
  steadyWrites('b'),
  s3Ratio('delayed', 'a', 'restore', 'wallSeconds', { floor: 0.8, must: 0.6 }),
  s3Ratio('delayed', 'b', 'restore', 'wallSeconds', { floor: 0.8, must: 0.6 }),
];

/** One PUT when the changes are small, two else, whoever makes the checkpoint. */
function steadyWrites(set: SetName): Row {
  const targets = { must: 2, aim: 1 };
  return { set, network: 'delayed', phase: 'incremental', metric: 'writeRequests', judge: 'figure', targets };
}

export type Verdict = 'aim' | 'must' | 'floor' | 'none' | 'must missed' | 'FLOOR MISSED' | 'failed' | 'not measured';

export interface Judged {
  readonly row: Row;
  /** Median over the rounds; undefined when nothing was measured. */
  readonly holdfast: number | undefined;
  readonly restic: number | undefined;
  /** Median of the pairs' ratios, and the span of them. */
  readonly ratio: number | undefined;
  readonly ratioMin: number | undefined;
  readonly ratioMax: number | undefined;
  readonly verdict: Verdict;
}

/** Judges one row by the samples of its set and phase. Level 3 is compared with restic's first save of the same round. */
export function judge(row: Row, samples: readonly Sample[]): Judged {
  const own = row.phase === 'level3' ? 'holdfast-level-3' : 'holdfast';
  const of = (contender: ContenderName, phase: Phase): Sample[] =>
    samples.filter(
      (sample) =>
        sample.set === row.set &&
        sample.network === row.network &&
        sample.phase === phase &&
        sample.contender === contender,
    );
  const ours = of(own, row.phase);
  const theirs = of('restic', row.phase === 'level3' ? 'first' : row.phase);
  const value = (sample: Sample | undefined): number | undefined => sample?.figures?.[row.metric];
  const ratios: number[] = [];
  for (const sample of ours) {
    const mine = value(sample);
    const other = value(theirs.find((candidate) => candidate.round === sample.round));
    if (mine !== undefined && other !== undefined && other > 0) ratios.push(mine / other);
  }
  const holdfast = median(ours.map(value));
  const judged = row.judge === 'figure' ? holdfast : median(ratios);
  return {
    row,
    holdfast,
    restic: median(theirs.map(value)),
    ratio: median(ratios),
    ratioMin: ratios.length === 0 ? undefined : Math.min(...ratios),
    ratioMax: ratios.length === 0 ? undefined : Math.max(...ratios),
    verdict: ours.some((sample) => sample.failed !== undefined) ? 'failed' : verdictOf(judged, row.targets),
  };
}

function verdictOf(value: number | undefined, { floor, must, aim }: Targets): Verdict {
  if (value === undefined) return 'not measured';
  if (floor !== undefined && value > floor) return 'FLOOR MISSED';
  if (aim !== undefined && value <= aim) return 'aim';
  if (must !== undefined && value <= must) return 'must';
  if (must !== undefined && floor === undefined) return 'must missed';
  return floor === undefined ? 'none' : 'floor';
}

/** @returns whether the row keeps a gate shut: its floor is missed, or it has one and gives no figure, or its run failed */
export function blocksGate({ row, verdict }: Judged): boolean {
  if (verdict === 'FLOOR MISSED' || verdict === 'failed') return true;
  return verdict === 'not measured' && row.targets.floor !== undefined;
}

/** @returns the middle value, the mean of the two middle ones for an even count, undefined for none */
export function median(values: readonly (number | undefined)[]): number | undefined {
  const sorted = values.filter((value) => value !== undefined).sort((one, other) => one - other);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined || sorted.length % 2 === 1) return upper;
  return ((sorted[middle - 1] ?? upper) + upper) / 2;
}
