/** What the agent measures, for Prometheus: names with their units, and labels with few values. docs/metrics.md lists the same. */
export interface MetricInfo {
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly labels?: readonly string[];
}

export type AgentMetric =
  | 'holdfast_agent_info'
  | 'holdfast_phase'
  | 'holdfast_objective_seconds'
  | 'holdfast_objective_met'
  | 'holdfast_durable_age_seconds'
  | 'holdfast_checkpoint_age_seconds'
  | 'holdfast_checkpoint_slot'
  | 'holdfast_checkpoint_files'
  | 'holdfast_checkpoint_bytes'
  | 'holdfast_checkpoint_suspect'
  | 'holdfast_unsaved_bytes'
  | 'holdfast_unsaved_files'
  | 'holdfast_fenced'
  | 'holdfast_store_reachable'
  | 'holdfast_problem'
  | 'holdfast_captures_total'
  | 'holdfast_capture_seconds_total'
  | 'holdfast_new_bytes_total'
  | 'holdfast_stored_bytes_total'
  | 'holdfast_save_bytes_per_second'
  | 'holdfast_upload_limit_bytes_per_second'
  | 'holdfast_upload_held_back_seconds_total'
  | 'holdfast_grace_seconds'
  | 'holdfast_grace_needed_seconds'
  | 'holdfast_volume_bytes'
  | 'holdfast_volume_limit_bytes'
  | 'holdfast_watcher'
  | 'holdfast_watcher_missed_total'
  | 'holdfast_notices_total'
  | 'holdfast_fenced_total'
  | 'holdfast_process_resident_bytes';

export const agentMetrics: Readonly<Record<AgentMetric, MetricInfo>> = {
  holdfast_agent_info: { type: 'gauge', help: '1, with the version and the lineage', labels: ['version', 'lineage'] },
  holdfast_phase: { type: 'gauge', help: '1 for the phase that the agent is in, 0 for the others', labels: ['phase'] },
  holdfast_objective_seconds: { type: 'gauge', help: 'The recovery point objective' },
  holdfast_objective_met: {
    type: 'gauge',
    help: '1 while the newest durable state is younger than the objective, else 0',
  },
  holdfast_durable_age_seconds: {
    type: 'gauge',
    help: 'Everything up to so long ago is durable; since the start where there is no checkpoint',
  },
  holdfast_checkpoint_age_seconds: { type: 'gauge', help: 'Age of the newest checkpoint, also while nothing changes' },
  holdfast_checkpoint_slot: { type: 'gauge', help: 'Slot of the newest checkpoint in the log; 0: there is none' },
  holdfast_checkpoint_files: { type: 'gauge', help: 'Files in the newest checkpoint' },
  holdfast_checkpoint_bytes: { type: 'gauge', help: 'Sum of the sizes of the files in the newest checkpoint' },
  holdfast_checkpoint_suspect: { type: 'gauge', help: '1 while the newest checkpoint is suspect and not released' },
  holdfast_unsaved_bytes: {
    type: 'gauge',
    help: 'Sizes of the files that differ from it, when they were counted last',
  },
  holdfast_unsaved_files: { type: 'gauge', help: 'Names that differ from it, when they were counted last' },
  holdfast_fenced: { type: 'gauge', help: '1 while a successor has the lineage' },
  holdfast_store_reachable: { type: 'gauge', help: '0 from a failed attempt to the next one that succeeds' },
  holdfast_problem: { type: 'gauge', help: '1 for each problem that holds now, by its code', labels: ['code'] },
  holdfast_captures_total: {
    type: 'counter',
    help: 'Captures that ended: committed, unchanged (nothing to commit), failed',
    labels: ['outcome'],
  },
  holdfast_capture_seconds_total: { type: 'counter', help: 'Time that captures took' },
  holdfast_new_bytes_total: { type: 'counter', help: 'Content that was not stored before, uncompressed' },
  holdfast_stored_bytes_total: { type: 'counter', help: 'What checkpoints took in the store' },
  holdfast_save_bytes_per_second: {
    type: 'gauge',
    help: 'Content that captures save in a second, by those that had something to do; 0 until there was one',
  },
  holdfast_upload_limit_bytes_per_second: { type: 'gauge', help: 'The limit of bandwidth; 0: none' },
  holdfast_upload_held_back_seconds_total: {
    type: 'counter',
    help: 'How long uploads were held back so that it holds, of all that were under way',
  },
  holdfast_grace_seconds: { type: 'gauge', help: 'The grace that the agent reckons with' },
  holdfast_grace_needed_seconds: { type: 'gauge', help: 'How long saving what is unsaved would take at that rate' },
  holdfast_volume_bytes: {
    type: 'gauge',
    help: 'Sum of the sizes of the files in a volume, as counted last',
    labels: ['volume'],
  },
  holdfast_volume_limit_bytes: { type: 'gauge', help: 'Size limit of a volume that has one', labels: ['volume'] },
  holdfast_watcher: { type: 'gauge', help: '1 for the watcher that a volume has', labels: ['volume', 'kind'] },
  holdfast_watcher_missed_total: {
    type: 'counter',
    help: 'Changes that full walks have found and no watcher had told of',
  },
  holdfast_notices_total: { type: 'counter', help: 'How often the end of the pod was announced' },
  holdfast_fenced_total: { type: 'counter', help: 'How often a successor took the lineage' },
  holdfast_process_resident_bytes: { type: 'gauge', help: 'Resident memory of the agent' },
};
