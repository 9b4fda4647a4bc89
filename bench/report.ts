import type { ContenderName, StoreKind } from './contenders.ts';
import type { SetName } from './data-sets.ts';
import {
  delayMs,
  type Figures,
  type Judged,
  judge,
  type Metric,
  median,
  type Network,
  requestKinds,
  type Row,
  rows,
  type Sample,
  s3Rows,
} from './rows.ts';
import type { Phase } from './settings.ts';

/** What stood around a run of the benchmark. */
export interface RunFacts {
  readonly date: string;
  readonly commit: string;
  readonly command: string;
  readonly machine: string;
  readonly node: string;
  /** Name, version and settings of everything that ran, or why it did not. */
  readonly contenders: readonly string[];
  readonly rounds: number;
  readonly quick: boolean;
}

export interface Run {
  readonly facts: RunFacts;
  readonly samples: readonly Sample[];
}

/**
 * Takes for each set and phase the newest run that measured it, so that a table can be completed in parts; the pairs of one
 * row always come from one run.
 * @param runs oldest first
 */
export function newestSamples(runs: readonly Run[]): Sample[] {
  const chosen = new Map<string, Sample[]>();
  for (const { samples } of runs) {
    // Level 3 is judged against the first saves beside it, so the two stay together.
    const groups = Map.groupBy(samples, ({ set, network, phase }) => {
      return `${network} ${set} ${phase === 'level3' ? 'first' : phase}`;
    });
    for (const [key, group] of groups) chosen.set(key, group);
  }
  return [...chosen.values()].flat();
}

/** @returns the rows that these samples have a part in, judged, in the order of the table */
export function judgeAll(store: StoreKind, samples: readonly Sample[], wanted: (row: Row) => boolean): Judged[] {
  return (store === 's3' ? s3Rows : rows).filter(wanted).map((row) => judge(row, samples));
}

const setTitles: Readonly<Record<SetName, string>> = {
  a: '(a) mixed, 2.1 GB, 39,000 files',
  b: '(b) 100,000 source files, 550 MB',
  c: '(c) 1,000,000 files, 229 MB',
  sqlite: 'SQLite, 242 MB',
};

const phaseTitles: Readonly<Record<Phase, string>> = {
  first: 'first checkpoint',
  level3: 'first checkpoint, `--level 3`',
  incremental: '10 files changed',
  restore: 'restore',
  restoreFirst: 'restore, 1 % of it `--first`',
  sqlite: '200 updates, 1000 inserts',
};

const networks: readonly (Network | undefined)[] = [undefined, 'direct', 'delayed'];

/** What stands in front of a row's title. */
function networkTitle(network: Network | undefined): string {
  return network === 'delayed' ? `at ${delayMs} ms: ` : '';
}

const metricTitles: Readonly<Record<Metric, string>> = {
  wallSeconds: 'wall',
  cpuSeconds: 'CPU',
  peakBytes: 'peak memory',
  storedBytes: 'stored',
  newBytes: 'new bytes',
  writeRequests: 'writing requests',
  firstShare: 'complete after this share of the whole',
};

/** Renders the tables and the facts as Markdown. */
export function renderReport(runs: readonly Run[], judged: readonly Judged[]): string {
  const missed = judged.filter(({ verdict }) => verdict === 'FLOOR MISSED' || verdict === 'failed');
  const unknown = judged.filter(({ row, verdict }) => verdict === 'not measured' && row.targets.floor !== undefined);
  const samples = newestSamples(runs);
  return [
    runs.some(({ facts }) => facts.quick) ? '**Small sets (`--quick`): these ratios mean nothing.**\n' : '',
    missed.length > 0
      ? `**${missed.length} rows miss their floor:** ${missed.map(({ row }) => rowTitle(row)).join('; ')}.`
      : unknown.length > 0
        ? `No row that was measured misses its floor; ${unknown.length} rows with a floor were not measured.`
        : 'No row misses its floor.',
    '',
    '### Against restic',
    '',
    '| | Holdfast | restic | ratio (span) | floor | must | aim | |',
    '|---|--:|--:|--:|--:|--:|--:|---|',
    ...judged.map(renderRow),
    '',
    '### Every program',
    '',
    'Medians: wall s / CPU s / peak MiB / stored MB (for the edits: MB added).',
    '',
    ...renderEveryone(samples),
    '',
    ...renderRequests(samples),
    '### Made by',
    '',
    renderOthersLoad(samples),
    '',
    ...runs.flatMap(renderFacts),
  ].join('\n');
}

function title({ network, phase, set }: Pick<Sample, 'network' | 'phase' | 'set'>): string {
  return `${networkTitle(network)}${phaseTitles[phase]}${set === 'sqlite' ? '' : ` (${set})`}`;
}

function rowTitle(row: Row): string {
  return `${title(row)} ${metricTitles[row.metric]}`;
}

function renderRow({ row, holdfast, restic, ratio, ratioMin, ratioMax, verdict }: Judged): string {
  const bound = (value: number | undefined): string => {
    if (value === undefined) return '';
    return row.judge === 'figure' ? `≤ ${amount(row.metric, value)}` : `≤ ${value.toFixed(2)}`;
  };
  const span = ratio === undefined ? '' : `**${ratio.toFixed(2)}** (${ratioMin?.toFixed(2)}–${ratioMax?.toFixed(2)})`;
  const cells = [
    rowTitle(row),
    amount(row.metric, holdfast),
    amount(row.metric, restic),
    span,
    bound(row.targets.floor),
    bound(row.targets.must),
    bound(row.targets.aim),
    verdict === 'floor' && row.targets.must !== undefined ? 'floor met, *must missed*' : verdictWords[verdict],
  ];
  return `| ${cells.join(' | ')} |`;
}

const verdictWords: Readonly<Record<Judged['verdict'], string>> = {
  aim: 'aim met',
  must: 'must met',
  floor: 'floor met',
  none: '',
  'must missed': '*must missed*',
  'FLOOR MISSED': '**FLOOR MISSED**',
  failed: '**RUN FAILED**',
  'not measured': 'not measured',
};

function amount(metric: Metric, value: number | undefined): string {
  if (value === undefined) return 'not available';
  if (metric === 'wallSeconds' || metric === 'cpuSeconds') return `${value.toFixed(2)} s`;
  if (metric === 'writeRequests') return value.toFixed(0);
  if (metric === 'firstShare') return value.toFixed(2);
  if (metric === 'peakBytes') return `${(value / 2 ** 20).toFixed(0)} MiB`;
  return value < 1e6 ? `${(value / 1e3).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

function renderEveryone(samples: readonly Sample[]): string[] {
  const everyone: ContenderName[] = ['holdfast', 'holdfast-level-3', 'restic', 'tar', 'borg'];
  const present = everyone.filter((name) => samples.some(({ contender }) => contender === name));
  const lines = [`| | ${present.join(' | ')} |`, `|---|${present.map(() => '--:|').join('')}`];
  for (const { network, phase, set, group } of groupsOf(samples)) {
    const cells = present.map((name) =>
      renderFigures(
        group.filter(({ contender }) => contender === name),
        phase,
      ),
    );
    const name = `${networkTitle(network)}${phaseTitles[phase]}${set === 'sqlite' ? '' : `, ${setTitles[set]}`}`;
    lines.push(`| ${name} | ${cells.join(' | ')} |`);
  }
  return lines;
}

interface Group {
  readonly network: Network | undefined;
  readonly phase: Exclude<Phase, 'level3'>;
  readonly set: SetName;
  readonly group: readonly Sample[];
}

/** The samples of all programs, by what they measured, in the order of the tables. */
function groupsOf(samples: readonly Sample[]): Group[] {
  const groups: Group[] = [];
  for (const network of networks) {
    for (const phase of ['first', 'incremental', 'restore', 'restoreFirst', 'sqlite'] as const) {
      for (const set of ['a', 'b', 'c', 'sqlite'] as const) {
        // Level 3 has a phase of its own to be judged, but is a first save like the others.
        const group = samples.filter(
          (sample) =>
            sample.network === network &&
            sample.set === set &&
            (sample.phase === phase || (phase === 'first' && sample.phase === 'level3')),
        );
        if (group.length > 0) groups.push({ network, phase, set, group });
      }
    }
  }
  return groups;
}

/** What each program asked of the S3 server, in its first round that was counted; empty without such a round. */
function renderRequests(samples: readonly Sample[]): string[] {
  const counted = samples.filter(({ figures }) => figures?.requests !== undefined);
  if (counted.length === 0) return [];
  const lines: string[] = [];
  for (const { phase, set, group } of groupsOf(counted)) {
    for (const name of ['holdfast', 'restic'] as const) {
      const requests = group.find(({ contender }) => contender === name)?.figures?.requests;
      if (requests === undefined) continue;
      const cells = requestKinds.map((kind) => requests[kind] ?? 0);
      lines.push(`| ${phaseTitles[phase]} (${set}), ${name} | ${cells.join(' | ')} |`);
    }
  }
  return [
    '### Requests',
    '',
    'Of the first round, counted on the wire; `BEGIN`, `PART` and `COMPLETE` are those of multipart uploads.',
    '',
    `| | ${requestKinds.join(' | ')} |`,
    `|---|${requestKinds.map(() => '--:|').join('')}`,
    ...lines,
    '',
  ];
}

function renderFigures(samples: readonly Sample[], phase: Phase): string {
  if (samples.length === 0) return '–';
  if (samples.some(({ failed }) => failed !== undefined)) return '**failed**';
  const middle = (metric: Metric): number | undefined =>
    median(samples.map(({ figures }: { figures?: Figures }) => figures?.[metric]));
  const stored = phase === 'first' ? middle('storedBytes') : middle('newBytes');
  return [
    middle('wallSeconds')?.toFixed(1),
    middle('cpuSeconds')?.toFixed(1),
    ((middle('peakBytes') ?? 0) / 2 ** 20).toFixed(0),
    ...(stored === undefined ? [] : [(stored / 1e6).toFixed(stored < 1e7 ? 2 : 0)]),
  ].join(' / ');
}

/** Above this share of one core a figure was made beside something else that worked. */
const quietShareMax = 0.15;

/** Says how much the rest of the machine worked during the runs, and beside which of them, since that spoils wall times. */
function renderOthersLoad(samples: readonly Sample[]): string {
  const shares = samples.flatMap(({ figures }) =>
    figures === undefined ? [] : [figures.otherCpuSeconds / figures.wallSeconds],
  );
  const middle = median(shares);
  if (middle === undefined) return '';
  const text = `Meanwhile the rest of the machine used ${middle.toFixed(2)} cores (median of the runs; at most ${Math.max(...shares).toFixed(2)}).`;
  if (middle > quietShareMax) return `**The machine was busy.** ${text} Measure again on a quiet one.`;
  const disturbed = samples.flatMap((sample) => {
    const share = sample.figures === undefined ? 0 : sample.figures.otherCpuSeconds / sample.figures.wallSeconds;
    return share > quietShareMax ? [`${title(sample)}, ${sample.contender} (${share.toFixed(2)} cores)`] : [];
  });
  return disturbed.length === 0 ? text : `${text} Disturbed were: ${disturbed.join('; ')}.`;
}

function renderFacts({ facts }: Run): string[] {
  return [
    '```sh',
    facts.command,
    '```',
    '',
    `${facts.date}, commit ${facts.commit}, ${facts.rounds} rounds; ${facts.machine}; Node ${facts.node}.`,
    '',
    ...facts.contenders.map((line) => `- ${line}`),
    '',
  ];
}

const markerNames: Readonly<Record<StoreKind, string>> = { file: 'bench', s3: 'bench-s3' };

/** Puts the report between the markers of its store in the document. @throws Error when the markers are not there */
export function placeReport(store: StoreKind, document: string, report: string): string {
  const begin = `<!-- ${markerNames[store]}:begin -->`;
  const end = `<!-- ${markerNames[store]}:end -->`;
  const start = document.indexOf(begin);
  const stop = document.indexOf(end);
  if (start < 0 || stop < start) throw new Error(`the document lacks ${begin} and ${end}`);
  return `${document.slice(0, start + begin.length)}\n\n${report.trim()}\n\n${document.slice(stop)}`;
}
