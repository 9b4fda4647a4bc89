/** The agent's state as Prometheus reads it. Everything is read when it is asked for, so that nothing has to be kept up to date. */
import { Counter, Gauge, Registry } from 'prom-client';
import { agentPhases } from '../contract/agent-api.ts';
import { type AgentMetric, agentMetrics, type MetricInfo } from '../contract/metrics.ts';
import type { AgentState } from './state.ts';

type Sample = readonly [value: number, labels?: Readonly<Record<string, string>>];

export const metricsContentType: string = Registry.PROMETHEUS_CONTENT_TYPE;

/** `residentBytes`: of this process. */
export function createMetrics(state: AgentState, residentBytes: () => number): () => Promise<string> {
  const registry = new Registry();
  for (const [name, info] of Object.entries(agentMetrics) as [AgentMetric, MetricInfo][]) {
    const { type, help, labels = [] } = info;
    const read = readers[name];
    const base = { name, help, labelNames: [...labels], registers: [registry] };
    if (type === 'counter') {
      new Counter({
        ...base,
        collect() {
          this.reset();
          for (const [value, of = {}] of read(state, residentBytes)) this.inc(of, value);
        },
      });
    } else {
      new Gauge({
        ...base,
        collect() {
          this.reset();
          const samples = read(state, residentBytes);
          for (const [value, of = {}] of samples) this.set(of, value);
          // What is not known is absent, not 0.
          if (samples.length === 0 && labels.length === 0) this.remove();
        },
      });
    }
  }
  return () => registry.metrics();
}

const one = (value: number | boolean): readonly Sample[] => [[Number(value)]];

const readers: Readonly<Record<AgentMetric, (state: AgentState, residentBytes: () => number) => readonly Sample[]>> = {
  holdfast_agent_info: ({ settings: { version, lineage } }) => [[1, { version, lineage }]],
  holdfast_phase: (state) => agentPhases.map((phase): Sample => [Number(state.shownPhase === phase), { phase }]),
  holdfast_objective_seconds: ({ settings }) => one(settings.objectiveMs / 1000),
  holdfast_objective_met: (state) => one(state.objectiveMet),
  holdfast_durable_age_seconds: (state) => one(state.unsavedSeconds),
  holdfast_checkpoint_age_seconds: ({ newest }) => (newest === undefined ? [] : one(newest.ageSeconds)),
  holdfast_checkpoint_slot: ({ newest }) => one(newest?.slot ?? 0),
  holdfast_checkpoint_files: ({ newest }) => one(newest?.files ?? 0),
  holdfast_checkpoint_bytes: ({ newest }) => one(newest?.bytes ?? 0),
  holdfast_checkpoint_suspect: (state) => one(state.problems.some(({ code }) => code === 'W_SUSPECT')),
  holdfast_unsaved_bytes: ({ unsaved }) => (unsaved === undefined ? [] : one(unsaved.bytes)),
  holdfast_unsaved_files: ({ unsaved }) => (unsaved === undefined ? [] : one(unsaved.files)),
  holdfast_fenced: ({ fenced }) => one(fenced),
  holdfast_store_reachable: ({ storeReachable }) => one(storeReachable),
  holdfast_problem: ({ problems }) => problems.map(({ code }): Sample => [1, { code }]),
  holdfast_captures_total: ({ counts }) => [
    [counts.committed, { outcome: 'committed' }],
    [counts.unchanged, { outcome: 'unchanged' }],
    [counts.failed, { outcome: 'failed' }],
  ],
  holdfast_capture_seconds_total: ({ counts }) => one(counts.captureSeconds),
  holdfast_new_bytes_total: ({ counts }) => one(counts.newBytes),
  holdfast_stored_bytes_total: ({ counts }) => one(counts.storedBytes),
  holdfast_save_bytes_per_second: ({ rate }) => one(rate.bytesPerSecond ?? 0),
  holdfast_upload_limit_bytes_per_second: ({ settings }) => one(settings.uploadBytesPerSecond ?? 0),
  holdfast_upload_held_back_seconds_total: ({ counts }) => one(counts.heldBackSeconds),
  holdfast_grace_seconds: ({ settings }) => one(settings.graceMs / 1000),
  holdfast_grace_needed_seconds: ({ rate, unsaved }) => {
    const seconds = unsaved === undefined ? undefined : rate.secondsFor(unsaved.bytes);
    return seconds === undefined ? [] : one(seconds);
  },
  holdfast_volume_bytes: (state) =>
    state.volumes.flatMap(({ name, bytes }): Sample[] => (bytes === null ? [] : [[bytes, { volume: name }]])),
  holdfast_volume_limit_bytes: (state) =>
    state.volumes.flatMap(({ name, limitBytes }): Sample[] =>
      limitBytes === null ? [] : [[limitBytes, { volume: name }]],
    ),
  holdfast_watcher: (state) =>
    state.volumes.flatMap(({ name, watcher }): Sample[] =>
      watcher === null ? [] : [[1, { volume: name, kind: watcher.kind }]],
    ),
  holdfast_watcher_missed_total: ({ counts }) => one(counts.watcherMissed),
  holdfast_notices_total: ({ counts }) => one(counts.notified),
  holdfast_fenced_total: ({ counts }) => one(counts.fenced),
  holdfast_process_resident_bytes: (_state, residentBytes) => one(residentBytes()),
};
