import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';
import { describe, expect, it } from 'vitest';
import { alerts } from '../../tools/monitoring/alerts.ts';
import { rows } from '../../tools/monitoring/dashboard.ts';
import { type KnownMetric, knownMetrics, monitoringFiles } from '../../tools/monitoring/write.ts';

const known = await knownMetrics();
const root = join(import.meta.dirname, '../..');
const runbooks = join(root, 'docs/runbooks');

interface Asked {
  /** Metrics by name. */
  readonly metrics: readonly string[];
  /** Labels of our metrics that the expression names. */
  readonly labels: readonly string[];
}

/** What an expression asks; throws where Prometheus would not take it. */
function asked(given: string): Asked {
  // Grafana puts its variables in before Prometheus sees them.
  const expr = given.replaceAll('$__rate_interval', '5m').replaceAll(/\$(?:namespace|pod)\b/g, '.*');
  const metrics: string[] = [];
  const labels: string[] = [];
  parser.parse(expr).iterate({
    enter({ name, type, from, to }) {
      if (type.isError) throw new Error(`${expr}: not PromQL at ${from}: ${expr.slice(from, to + 20)}`);
      if (name === 'Identifier') metrics.push(expr.slice(from, to));
      if (name === 'LabelName') labels.push(expr.slice(from, to));
    },
  });
  return { metrics, labels };
}

/** Labels that Prometheus gives to whatever it scrapes, and that a histogram has. */
const outerLabels: ReadonlySet<string> = new Set(['namespace', 'pod', 'le']);

function holds(expr: string): void {
  const { metrics, labels } = asked(expr);
  const metric = (name: string): KnownMetric | undefined => known.get(name.replace(/_bucket$/, ''));
  for (const name of metrics) expect(metric(name), `${name} in ${expr}`).toBeDefined();
  const own = new Set(metrics.flatMap((name) => metric(name)?.labels ?? []));
  for (const label of labels) expect(own.has(label) || outerLabels.has(label), `${label} in ${expr}`).toBe(true);
  // A counter that is looked at as it is says how long its process has run.
  for (const name of metrics.filter((each) => metric(each)?.type === 'counter')) {
    expect(expr, `${name} in ${expr}`).toMatch(new RegExp(`(?:rate|increase)\\([^()]*${name}`));
  }
}

it('knows what wrong expressions are', () => {
  expect(() => asked('rate(x[5m]')).toThrow(/not PromQL/);
  expect(asked('sum by (code) (holdfast_problem{code="x"})')).toEqual({
    metrics: ['holdfast_problem'],
    labels: ['code', 'code'],
  });
});

it('what the chart holds was made from the catalogues as they are now: node tools/monitoring/write.ts', async () => {
  for (const [path, text] of await monitoringFiles()) {
    expect(readFileSync(join(root, 'charts/holdfast', path), 'utf8'), path).toBe(text);
  }
});

describe.each(alerts.map((alert) => [alert.name, alert] as const))('the alert %s', (name, alert) => {
  it('asks for metrics and labels that there are', () => holds(alert.expr));

  it('names only labels that its series have', () => {
    const series = asked(alert.expr);
    const aggregated = /^(?:absent|min|max|sum)\b/.test(alert.expr);
    const own = series.metrics.flatMap((metric) => known.get(metric)?.labels ?? []);
    const has = aggregated ? [...(/\bby \((\w+)\)/.exec(alert.expr)?.slice(1) ?? [])] : [...own, 'namespace', 'pod'];
    for (const [, label] of alert.summary.matchAll(/\$labels\.(\w+)/g)) expect(has, alert.summary).toContain(label);
  });

  it('has a runbook that says what it is, where to look, and what to do', () => {
    const text = readFileSync(join(runbooks, `${name}.md`), 'utf8');
    expect(text).toMatch(new RegExp(`^# ${name}\n`));
    expect(text).toContain(`\`${alert.expr}\``);
    expect(text).toContain(alert.severity);
    expect(text).toMatch(/\n## Look\n\n1\. .+\n## Do\n\n- /s);
    expect(readFileSync(join(runbooks, 'README.md'), 'utf8')).toContain(
      `| [${name}](${name}.md) | ${alert.severity} |`,
    );
  });
});

it('there is no runbook without an alert, and links lead somewhere', () => {
  const files = readdirSync(runbooks).filter((file) => file !== 'README.md');
  expect(files.toSorted()).toEqual(alerts.map(({ name }) => `${name}.md`).toSorted());
  for (const file of files) {
    for (const [, target = ''] of readFileSync(join(runbooks, file), 'utf8').matchAll(/\]\(([^)#]+)/g)) {
      expect(() => readFileSync(join(runbooks, target)), `${file}: ${target}`).not.toThrow();
    }
  }
});

describe('the dashboard', () => {
  const queries = rows.flatMap(({ panels }) => panels.flatMap((panel) => panel.queries.map(({ expr }) => expr)));

  it.each(queries)('%s', (expr) => holds(expr));

  it('shows every metric that there is', () => {
    const shown = new Set(queries.flatMap((expr) => asked(expr).metrics).map((name) => name.replace(/_bucket$/, '')));
    expect([...known.keys()].filter((name) => !shown.has(name))).toEqual([]);
  });

  it('has panels that do not lie on each other', () => {
    const file = JSON.parse(readFileSync(join(root, 'charts/holdfast/files/dashboard.json'), 'utf8')) as {
      panels: { id: number; title: string; gridPos: { x: number; y: number; w: number; h: number } }[];
    };
    expect(new Set(file.panels.map(({ id }) => id)).size).toBe(file.panels.length);
    for (const a of file.panels) {
      for (const b of file.panels.filter(({ id }) => id > a.id)) {
        const apart =
          a.gridPos.x + a.gridPos.w <= b.gridPos.x ||
          b.gridPos.x + b.gridPos.w <= a.gridPos.x ||
          a.gridPos.y + a.gridPos.h <= b.gridPos.y ||
          b.gridPos.y + b.gridPos.h <= a.gridPos.y;
        expect(apart, `${a.title} and ${b.title}`).toBe(true);
      }
    }
  });
});
