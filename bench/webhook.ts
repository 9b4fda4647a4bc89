/**
 * Latency and memory of the webhook: `node bench/webhook.ts [--seconds N] [--rate N]`, after `npm run build`.
 *
 * One real process; reviews are posted straight to it over TLS at a steady rate, on a few connections that stay open, as an API
 * server does it. Each is sent when its time has come, whether or not earlier ones were answered, and its latency counts from that
 * moment: a server that stalls cannot hide it.
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { cases } from '../test/webhook/cases.ts';
import { ofDeployment, podOf, reviewOf, someSettings } from '../test/webhook/pods.ts';
import { startWebhookProcess } from '../test/webhook/webhook-process.ts';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, rate: { type: 'string', default: '50' } },
});
const [seconds, rate] = [Number(values.seconds), Number(values.rate)];

/** What a cluster sends: mostly small pods, all of the test's kinds, and now and then a large one. */
function reviews(): readonly string[] {
  const large = podOf({
    metadata: ofDeployment(),
    spec: {
      containers: Array.from({ length: 200 }, (_, i) => ({
        name: `c${i}`,
        image: 'x',
        env: Array.from({ length: 20 }, (__, n) => ({ name: `V${n}`, value: 'value of some length' })),
        volumeMounts: [{ name: 'data', mountPath: '/data' }],
      })),
    },
  });
  const usual = cases.map(({ review }) => JSON.stringify(review));
  return [...usual, ...usual, JSON.stringify(reviewOf(large))];
}

function memoryOf(pid: number, name: 'VmRSS' | 'VmHWM'): number {
  const line = readFileSync(`/proc/${pid}/status`, 'latin1')
    .split('\n')
    .find((each) => each.startsWith(name));
  return Number(/\d+/.exec(line ?? '')?.[0] ?? 0) / 1024;
}

function quantile(sorted: readonly number[], of: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * of))] as number;
}

const bodies = reviews();
await using webhook = await startWebhookProcess(someSettings);
const pid = webhook.child.pid as number;
const idle = memoryOf(pid, 'VmRSS');
const latenciesMs: number[] = [];
const statuses = new Map<number, number>();
const startMs = performance.now();
const sent: Promise<void>[] = [];
for (let i = 0; i < seconds * rate; i++) {
  const dueMs = startMs + (i * 1000) / rate;
  const waitMs = dueMs - performance.now();
  if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  sent.push(
    webhook.ask('/mutate', { body: bodies[i % bodies.length] as string }).then(({ status }) => {
      latenciesMs.push(performance.now() - dueMs);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }),
  );
}
await Promise.all(sent);
const peak = memoryOf(pid, 'VmHWM');
const rss = memoryOf(pid, 'VmRSS');
const cpu = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
const cpuSeconds = (Number(cpu[11]) + Number(cpu[12])) / 100;
const sorted = latenciesMs.toSorted((a, b) => a - b);
const ms = (of: number): string => quantile(sorted, of).toFixed(1);
console.log(`| reviews | ${sorted.length} at ${rate}/s, of ${bodies.length} kinds, up to ${Math.round(Math.max(...bodies.map((each) => each.length)) / 1024)} KiB |
|---|---|
| answered with | ${[...statuses].map(([status, count]) => `${status}: ${count}`).join(', ')} |
| latency, ms | p50 ${ms(0.5)}, p95 ${ms(0.95)}, p99 ${ms(0.99)}, max ${ms(1)} |
| CPU of the webhook | ${((100 * cpuSeconds) / seconds).toFixed(1)} % of a core, its start included |
| RSS | ${idle.toFixed(0)} MiB before the first review, ${rss.toFixed(0)} MiB after the last, ${peak.toFixed(0)} MiB at most |
| machine | ${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version} |`);
await webhook.end();
