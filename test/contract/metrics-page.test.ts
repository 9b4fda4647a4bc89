import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { agentMetrics, type MetricInfo } from '../../src/contract/metrics.ts';

it('docs/metrics.md lists every metric with its type, labels and meaning, and no other', () => {
  const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const rows = [...page.matchAll(/^\| `(holdfast_\w+)` \| (\w+) \| (.*?) \| (.*) \|$/gm)].map(([, ...cells]) => cells);
  const expected = Object.entries<MetricInfo>(agentMetrics).map(([name, { type, labels = [], help }]) => [
    name,
    type,
    labels.map((label) => `\`${label}\``).join(', '),
    help,
  ]);
  expect(rows).toEqual(expected);
});

it('metrics are named by what Prometheus expects: base units, and _total for what only grows', () => {
  for (const [name, { type, help }] of Object.entries<MetricInfo>(agentMetrics)) {
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    expect(name, name).toMatch(/^holdfast_[a-z]+(_[a-z]+)*$/);
    expect(name, name).not.toMatch(/_(ms|milliseconds|kb|mib|percent)(_|$)/);
    expect(help.length, name).toBeGreaterThan(10);
  }
});
