import { homedir } from 'node:os';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type PeerName, peerNames, type StoreKind, storeKinds } from './contenders.ts';
import type { SetName } from './data-sets.ts';

/**
 * What is measured: a save into an empty repository (level 1 or 3), a save after edits, a restore, a restore that brings some files
 * back first, the database edits.
 */
export type Phase = 'first' | 'level3' | 'incremental' | 'restore' | 'restoreFirst' | 'sqlite';

/** Everything the benchmark was asked to do, validated. */
export interface Settings {
  readonly store: StoreKind;
  readonly phases: readonly Phase[];
  readonly sets: readonly Exclude<SetName, 'sqlite'>[];
  readonly peers: readonly PeerName[];
  readonly rounds: number;
  /** Whether the number of rounds was asked for; otherwise a very large set may take fewer. */
  readonly roundsGiven: boolean;
  /** Rounds in which peers other than restic take part; they give figures to look at, not ratios to judge. */
  readonly referenceRounds: number;
  readonly seed: number;
  /** Small sets: shows that everything runs, measures nothing worth a judgement. */
  readonly quick: boolean;
  /** A missed floor ends with status 1. */
  readonly gate: boolean;
  /** Puts the table into docs/benchmarks.md. */
  readonly write: boolean;
  /** Judges and prints an earlier run's results without running anything. */
  readonly reportOnly: boolean;
  readonly keep: boolean;
  readonly cacheDir: string;
  /** Raw figures; a run with the same file replaces what it measured anew and keeps the rest. */
  readonly resultsPath: string | undefined;
  readonly program: string;
  readonly peerPrograms: Readonly<Partial<Record<PeerName, string>>>;
}

/** The command line cannot be understood; the message says what is wrong. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

const phaseOfWord: Readonly<Record<string, Phase>> = {
  first: 'first',
  level3: 'level3',
  incr: 'incremental',
  incremental: 'incremental',
  restore: 'restore',
  'restore-first': 'restoreFirst',
  sqlite: 'sqlite',
};

function wordOf(wanted: Phase): string {
  return Object.entries(phaseOfWord).find(([, phase]) => phase === wanted)?.[0] ?? wanted;
}

/** What each store has rows or figures for. */
const offers: Readonly<Record<StoreKind, { only: string; sets: string; peers: string }>> = {
  file: { only: 'first,level3,incr,restore,restore-first,sqlite', sets: 'a,b,c', peers: 'restic,tar' },
  s3: { only: 'first,incr,restore', sets: 'a,b', peers: 'restic' },
};

export const usage = `npm run bench -- [options]

  --store file,s3     repositories in directories, or on a MinIO that is started for it, once as it is and once
                      with 20 ms before each request (file)
  --only first,level3,incr,restore,restore-first,sqlite   what to measure (all; of s3: first,incr,restore)
  --sets a,b,c        data sets: a mixed 2.1 GB, b 100,000 files, c 1,000,000 files (all; of s3: a,b)
  --peers restic,tar,borg   programs to compare with (restic,tar; of s3: restic)
  --rounds N          alternating pairs with restic (3; 2 for c)
  --reference-rounds N      rounds of the other peers (1)
  --quick             small sets: a smoke test, no judgement
  --gate              status 1 when a row misses its floor or could not be measured
  --write, --no-write put the table into docs/benchmarks.md (only a whole run does by itself)
  --results FILE      raw figures; runs with the same file complete each other
  --report-only       judge the figures of --results without running anything
  --work DIR          cache for data sets and repositories ($XDG_CACHE_HOME/holdfast-bench)
  --program FILE      the holdfast to measure (bin/holdfast)
  --restic FILE, --borg FILE   a binary of one's own instead of Debian's
  --seed N            of the data sets (1)
  --keep              leave repositories and restored trees for a look
`;

/**
 * Reads the command line.
 * @param root the checkout; the cache must lie outside of it
 * @throws UsageError
 */
export function parseSettings(
  args: readonly string[],
  { root, env }: { root: string; env: Readonly<Record<string, string | undefined>> },
): Settings {
  const values = parse(args);
  const quick = values.quick ?? false;
  const gate = values.gate ?? false;
  const reportOnly = values['report-only'] ?? false;
  if (quick && gate) throw new UsageError('--gate needs the full sets: the small ones of --quick show nothing');
  if (reportOnly && values.results === undefined) throw new UsageError('--report-only needs --results');
  const cacheDir = resolve(values.work ?? join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'holdfast-bench'));
  const inside = relative(root, cacheDir);
  if (inside === '' || !(inside.startsWith('..') || isAbsolute(inside))) {
    throw new UsageError(`--work ${cacheDir} lies inside the checkout`);
  }
  const store = choice(values.store ?? 'file', '--store', storeKinds);
  const whole = values.only === undefined && values.sets === undefined && !quick;
  const phases = list(values.only ?? offers[store].only, '--only', (word) => phaseOfWord[word]);
  const peers = list(values.peers ?? offers[store].peers, '--peers', (word) => peerNames.find((name) => name === word));
  if (store === 's3') {
    for (const phase of ['level3', 'restoreFirst', 'sqlite'] as const) {
      if (phases.includes(phase))
        throw new UsageError(`--only ${wordOf(phase)} is measured in directories, not with --store s3`);
    }
    for (const peer of peers) {
      if (peer !== 'restic')
        throw new UsageError(`--peers ${peer} has no S3 store of its own: with --store s3, only restic`);
    }
  }
  // Level 3 is judged against restic's first save of the same round.
  if (phases.includes('level3') && !phases.includes('first')) phases.unshift('first');
  return Object.freeze({
    store,
    phases,
    sets: list(values.sets ?? offers[store].sets, '--sets', (word) =>
      (['a', 'b', 'c'] as const).find((name) => name === word),
    ),
    peers,
    rounds: count(values.rounds ?? (quick ? '1' : '3'), '--rounds', 1),
    roundsGiven: values.rounds !== undefined,
    referenceRounds: count(values['reference-rounds'] ?? '1', '--reference-rounds', 0),
    seed: count(values.seed ?? '1', '--seed', 0),
    quick,
    gate,
    write: values.write ?? whole,
    reportOnly,
    keep: values.keep ?? false,
    cacheDir,
    resultsPath: values.results === undefined ? undefined : resolve(values.results),
    program: resolve(values.program ?? join(root, 'bin/holdfast')),
    peerPrograms: Object.freeze({
      ...(values.restic === undefined ? {} : { restic: resolve(values.restic) }),
      ...(values.borg === undefined ? {} : { borg: resolve(values.borg) }),
    }),
  });
}

const flags = {
  store: { type: 'string' },
  only: { type: 'string' },
  sets: { type: 'string' },
  peers: { type: 'string' },
  rounds: { type: 'string' },
  'reference-rounds': { type: 'string' },
  quick: { type: 'boolean' },
  gate: { type: 'boolean' },
  write: { type: 'boolean' },
  results: { type: 'string' },
  'report-only': { type: 'boolean' },
  work: { type: 'string' },
  program: { type: 'string' },
  restic: { type: 'string' },
  borg: { type: 'string' },
  seed: { type: 'string' },
  keep: { type: 'boolean' },
} as const;

type FlagValues = {
  [Name in keyof typeof flags]?: (typeof flags)[Name]['type'] extends 'boolean' ? boolean : string;
};

function parse(args: readonly string[]): FlagValues {
  try {
    return parseArgs({ args: [...args], options: flags, allowNegative: true }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function list<Item>(words: string, flag: string, find: (word: string) => Item | undefined): Item[] {
  const items = words.split(',').filter((word) => word !== '');
  return items.map((word) => {
    const item = find(word);
    if (item === undefined) throw new UsageError(`${flag}: ${word} is not known`);
    return item;
  });
}

function choice<Item extends string>(word: string, flag: string, items: readonly Item[]): Item {
  const item = items.find((known) => known === word);
  if (item === undefined) throw new UsageError(`${flag}: ${word} is not one of ${items.join(', ')}`);
  return item;
}

function count(text: string, flag: string, min: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < min)
    throw new UsageError(`${flag}: ${text} is not a whole number from ${min}`);
  return value;
}
