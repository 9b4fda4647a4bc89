import { expect, it } from 'vitest';
import { newestSamples, placeReport, type Run, renderReport } from '../../bench/report.ts';
import { blocksGate, type Figures, judge, median, type Row, rows, type Sample, s3Rows } from '../../bench/rows.ts';

const row: Row = {
  set: 'a',
  phase: 'first',
  metric: 'wallSeconds',
  judge: 'ratio',
  targets: { floor: 0.8, must: 0.5, aim: 0.3 },
};

function figures(wallSeconds: number): Figures {
  return {
    wallSeconds,
    cpuSeconds: 1,
    peakBytes: 1,
    otherCpuSeconds: 0.1,
    storedBytes: 1,
    newBytes: wallSeconds * 1000,
  };
}

function pairs(...walls: [holdfast: number, restic: number][]): Sample[] {
  return walls.flatMap(([holdfast, restic], round) => [
    { set: 'a', phase: 'first', round, contender: 'holdfast', figures: figures(holdfast) },
    { set: 'a', phase: 'first', round, contender: 'restic', figures: figures(restic) },
  ]);
}

it('takes the median of the ratios of pairs, not the ratio of the medians', () => {
  const judged = judge(row, pairs([1, 10], [4, 8], [9, 12]));
  expect(judged).toMatchObject({ ratio: 0.5, ratioMin: 0.1, ratioMax: 0.75, holdfast: 4, restic: 10, verdict: 'must' });
});

it.each([
  [2, 'aim'],
  [3, 'aim'],
  [4, 'must'],
  [8, 'floor'],
  [8.1, 'FLOOR MISSED'],
] as const)('judges %d of 10 as %s', (wall, verdict) => {
  const judged = judge(row, pairs([wall, 10]));
  expect(judged.verdict).toBe(verdict);
  expect(blocksGate(judged)).toBe(verdict === 'FLOOR MISSED');
});

it('keeps the gate shut when a row with a floor has no pair, and when a run failed', () => {
  const alone = judge(row, pairs([2, 10]).slice(0, 1));
  expect(alone.verdict).toBe('not measured');
  expect(blocksGate(alone)).toBe(true);
  const failed = judge(row, [
    ...pairs([2, 10]),
    { set: 'a', phase: 'first', round: 1, contender: 'holdfast', failed: 'status 1' },
  ]);
  expect(failed.verdict).toBe('failed');
  expect(blocksGate(failed)).toBe(true);
  expect(blocksGate(judge({ ...row, targets: { must: 0.5 } }, []))).toBe(false);
});

it('judges a missed must without a floor, and says nothing where no target is', () => {
  expect(judge({ ...row, targets: { must: 0.5 } }, pairs([6, 10])).verdict).toBe('must missed');
  expect(judge({ ...row, targets: {} }, pairs([6, 10])).verdict).toBe('none');
});

it('judges bytes by themselves, with or without a peer', () => {
  const bytes: Row = { ...row, metric: 'newBytes', judge: 'figure', targets: { must: 5000, aim: 1000 } };
  expect(judge(bytes, pairs([3, 1]).slice(0, 1)).verdict).toBe('must');
  expect(judge(bytes, pairs([6, 100])).verdict).toBe('must missed');
});

it('compares level 3 with the first save of restic in the same round', () => {
  const level3: Sample[] = pairs([4, 1])
    .slice(0, 1)
    .map((sample) => ({
      ...sample,
      phase: 'level3',
      contender: 'holdfast-level-3',
    }));
  expect(judge({ ...row, phase: 'level3' }, [...pairs([1, 10]), ...level3]).ratio).toBe(0.4);
});

it('has every floor of the table', () => {
  const floors = rows.filter(({ targets }) => targets.floor !== undefined);
  expect(floors.filter(({ metric }) => metric === 'peakBytes')).toHaveLength(9);
  expect(floors.filter(({ metric }) => metric === 'wallSeconds').map(({ targets }) => targets.floor)).toEqual([
    0.8, 0.8, 0.8, 0.5, 0.8, 0.8, 0.8,
  ]);
  for (const { targets } of rows) {
    expect(targets.floor ?? Infinity).toBeGreaterThanOrEqual(targets.must ?? 0);
    expect(targets.must ?? Infinity).toBeGreaterThanOrEqual(targets.aim ?? 0);
  }
});

it('has what S3 must reach', () => {
  const musts = s3Rows
    .filter(({ metric, targets }) => metric !== 'writeRequests' && targets.must !== undefined)
    .map(({ network, phase, set, metric, targets }) => [network, phase, set, metric, targets.must, targets.aim]);
  expect(musts).toEqual([
    ['direct', 'first', 'a', 'wallSeconds', 0.5, undefined],
    ['direct', 'first', 'a', 'peakBytes', 1.2, undefined],
    ['direct', 'first', 'b', 'wallSeconds', 0.5, undefined],
    ['direct', 'restore', 'a', 'wallSeconds', 0.75, undefined],
    ['direct', 'restore', 'a', 'peakBytes', 1.2, undefined],
    ['direct', 'restore', 'b', 'wallSeconds', 0.75, undefined],
    ['delayed', 'first', 'a', 'wallSeconds', 0.5, undefined],
    ['delayed', 'first', 'b', 'wallSeconds', 0.5, undefined],
    ['delayed', 'incremental', 'b', 'wallSeconds', 0.35, 0.2],
    ['delayed', 'restore', 'a', 'wallSeconds', 0.6, undefined],
    ['delayed', 'restore', 'b', 'wallSeconds', 0.6, undefined],
  ]);
});

it('judges each network by its own pairs, and directories by none of them', () => {
  const over = (network: 'direct' | 'delayed', ...walls: [number, number][]): Sample[] =>
    pairs(...walls).map((sample) => ({ ...sample, network }));
  const samples = [...over('direct', [1, 10]), ...over('delayed', [6, 10])];
  expect(judge({ ...row, network: 'direct' }, samples).ratio).toBe(0.1);
  expect(judge({ ...row, network: 'delayed' }, samples).ratio).toBe(0.6);
  expect(judge(row, samples).verdict).toBe('not measured');
  expect(
    newestSamples([
      { facts, samples },
      { facts, samples: over('delayed', [7, 10]) },
    ]),
  ).toHaveLength(4);
});

it('finds the median', () => {
  expect([median([]), median([3]), median([3, 1, 2]), median([4, 1, undefined, 2, 3])]).toEqual([undefined, 3, 2, 2.5]);
});

const facts: Run['facts'] = {
  date: '2026-01-02',
  commit: 'abc',
  command: 'npm run bench',
  machine: '2 cores',
  node: 'v26',
  contenders: ['holdfast (1): on', 'borg: not available'],
  rounds: 1,
  quick: false,
};

it('lets a newer run replace what it measured again, and nothing else', () => {
  const restore = pairs([1, 2]).map((sample): Sample => ({ ...sample, phase: 'restore' }));
  const runs = [
    { facts, samples: [...pairs([1, 2], [3, 4]), ...restore] },
    { facts, samples: pairs([5, 6]) },
  ];
  expect(newestSamples(runs)).toHaveLength(4);
  expect(newestSamples(runs).filter(({ phase }) => phase === 'first')).toEqual(pairs([5, 6]));
});

it('marks a missed floor plainly, and puts the report between the markers', () => {
  const samples = pairs([9, 10]);
  const report = renderReport([{ facts, samples }], [judge(row, samples)]);
  expect(report).toContain('**1 rows miss their floor:** first checkpoint (a) wall.');
  expect(report).toContain('| first checkpoint (a) wall | 9.00 s | 10.00 s | **0.90** (0.90–0.90) | ≤ 0.80 |');
  expect(report).toContain('- borg: not available');
  const document = 'before\n<!-- bench:begin -->\nstale figures\n<!-- bench:end -->\nafter\n';
  const placed = placeReport('file', document, report);
  expect(placed).toMatch(/^before\n<!-- bench:begin -->\n\n\*\*1 rows[\s\S]*<!-- bench:end -->\nafter\n$/);
  expect(placed).not.toContain('stale figures');
  expect(placeReport('file', placed, report)).toBe(placed);
  const both = `${document}<!-- bench-s3:begin -->\nstale too\n<!-- bench-s3:end -->\n`;
  expect(placeReport('s3', both, 'new')).toBe(`${document}<!-- bench-s3:begin -->\n\nnew\n\n<!-- bench-s3:end -->\n`);
  expect(() => placeReport('s3', document, report)).toThrow(/lacks/);
  expect(() => placeReport('file', 'nothing', report)).toThrow(/lacks/);
});

it('says when the machine was busy with other things', () => {
  const busy = pairs([9, 10]).map((sample) => ({ ...sample, figures: { ...figures(10), otherCpuSeconds: 9 } }));
  expect(renderReport([{ facts, samples: busy }], [])).toContain('**The machine was busy.**');
  expect(renderReport([{ facts, samples: pairs([9, 10]) }], [])).not.toContain('busy.**');
});

it('names the runs beside which something else worked', () => {
  const samples = pairs([10, 10], [10, 10], [10, 10]);
  const [first, ...others] = samples as [Sample, ...Sample[]];
  const disturbed: Sample = { ...first, network: 'direct', figures: { ...figures(10), otherCpuSeconds: 4 } };
  const report = renderReport([{ facts, samples: [disturbed, ...others] }], []);
  expect(report).toContain('Disturbed were: first checkpoint (a), holdfast (0.40 cores).');
  expect(renderReport([{ facts, samples }], [])).not.toContain('Disturbed');
});

it('shows the delay and the requests of a server, and a must that is missed above its floor', () => {
  const samples = pairs([6, 10]).map((sample): Sample => {
    const counted = {
      ...figures(sample.contender === 'restic' ? 10 : 6),
      requests: { PUT: 2, GET: 5 },
      writeRequests: 2,
    };
    return { ...sample, network: 'delayed', figures: counted };
  });
  const writes: Row = { ...row, network: 'delayed', metric: 'writeRequests', judge: 'figure', targets: { must: 2 } };
  const judged = [{ ...row, network: 'delayed' } as const, writes].map((wanted) => judge(wanted, samples));
  const report = renderReport([{ facts, samples }], judged);
  expect(report).toMatch(/\| at 20 ms: first checkpoint \(a\) wall \|.*\| floor met, \*must missed\* \|/);
  expect(report).toMatch(
    /\| at 20 ms: first checkpoint \(a\) writing requests \| 2 \| 2 \|.*\| ≤ 2 \|.*\| must met \|/,
  );
  expect(report).toContain('| first checkpoint (a), holdfast | 2 | 0 | 0 | 0 | 5 | 0 | 0 | 0 |');
  expect(renderReport([{ facts, samples: pairs([6, 10]) }], [])).not.toContain('Requests');
});

it('does not call a table good that lacks figures', () => {
  expect(renderReport([{ facts, samples: [] }], [judge(row, [])])).toContain('1 rows with a floor were not measured');
});
