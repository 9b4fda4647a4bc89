/**
 * Writes what the chart watches Holdfast with from the catalogues of metrics: `node tools/monitoring/write.ts`. A test compares what it
 * would write with what is there.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentMetrics } from '../../src/contract/metrics.ts';
import { WebhookMetrics } from '../../src/webhook/metrics.ts';
import { alerts } from './alerts.ts';
import { dashboardJson } from './dashboard.ts';

export interface KnownMetric {
  readonly help: string;
  readonly type: string;
  readonly labels: readonly string[];
}

/** Of agents and of the webhook, by name. */
export async function knownMetrics(): Promise<ReadonlyMap<string, KnownMetric>> {
  const known = new Map<string, KnownMetric>(
    Object.entries(agentMetrics).map(([name, { help, type, labels = [] }]) => [name, { help, type, labels }]),
  );
  const { registry } = new WebhookMetrics();
  for (const { name, help, type } of await registry.getMetricsAsJSON()) {
    if (!name.startsWith('holdfast_')) continue;
    const metric = registry.getSingleMetric(name) as unknown as { readonly labelNames?: readonly string[] };
    known.set(name, { help, type: String(type), labels: metric.labelNames ?? [] });
  }
  return known;
}

/** By path below the chart. */
export async function monitoringFiles(): Promise<ReadonlyMap<string, string>> {
  const helps = new Map([...(await knownMetrics())].map(([name, { help }]) => [name, help]));
  return new Map([
    ['files/alerts.json', `${JSON.stringify(alerts, null, 2)}\n`],
    ['files/dashboard.json', `${JSON.stringify(dashboardJson(helps), null, 2)}\n`],
  ]);
}

if (import.meta.main) {
  for (const [path, text] of await monitoringFiles()) {
    writeFileSync(join(import.meta.dirname, '../../charts/holdfast', path), text);
  }
}
