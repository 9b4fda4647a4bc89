/** What the chart alerts on: one runbook each in docs/runbooks, and nothing that nobody could act on. */
export interface Alert {
  readonly name: string;
  /** critical: data is being lost or cannot be brought back. warning: it will be, unless somebody looks. info: to be known. */
  readonly severity: 'critical' | 'warning' | 'info';
  readonly expr: string;
  readonly for: string;
  readonly summary: string;
}

const pod = '{{ $labels.namespace }}/{{ $labels.pod }}';

export const alerts: readonly Alert[] = [
  {
    name: 'HoldfastObjectiveMissed',
    severity: 'critical',
    expr: 'holdfast_objective_met == 0',
    for: '1m',
    summary: `${pod}: the newest durable state is older than the objective`,
  },
  {
    name: 'HoldfastFenced',
    severity: 'critical',
    expr: 'holdfast_fenced == 1',
    for: '1m',
    summary: `${pod}: a successor has taken the lineage, so nothing that this pod writes is kept any more`,
  },
  {
    name: 'HoldfastSuspect',
    severity: 'warning',
    expr: 'holdfast_checkpoint_suspect == 1',
    for: '5m',
    summary: `${pod}: the newest checkpoint holds much less than the one before, and waits for somebody to look`,
  },
  {
    name: 'HoldfastGraceTooShort',
    severity: 'warning',
    expr: 'holdfast_grace_needed_seconds > holdfast_grace_seconds',
    for: '5m',
    summary: `${pod}: what is unsaved would not be saved within the grace period, if the pod ended now`,
  },
  {
    name: 'HoldfastStoreUnreachable',
    severity: 'warning',
    expr: 'holdfast_store_reachable == 0',
    for: '5m',
    summary: `${pod}: the store does not answer`,
  },
  {
    name: 'HoldfastWaiting',
    severity: 'warning',
    expr: 'holdfast_phase{phase=~"starting|waiting"} == 1',
    for: '10m',
    summary: `${pod}: the agent is {{ $labels.phase }} and saves nothing`,
  },
  {
    name: 'HoldfastCapturesFail',
    severity: 'warning',
    expr: 'increase(holdfast_captures_total{outcome="failed"}[15m]) > 3',
    for: '0m',
    summary: `${pod}: checkpoints fail again and again`,
  },
  {
    name: 'HoldfastVolumeNearlyFull',
    severity: 'warning',
    expr: 'holdfast_volume_bytes / holdfast_volume_limit_bytes > 0.9',
    for: '5m',
    summary: `${pod}: the volume {{ $labels.volume }} nears its size limit, beyond which the pod is evicted with a second to live`,
  },
  {
    name: 'HoldfastWatcherMisses',
    severity: 'info',
    expr: 'increase(holdfast_watcher_missed_total[1h]) > 0',
    for: '0m',
    summary: `${pod}: full walks find changes that no watcher told of`,
  },
  {
    name: 'HoldfastWebhookDown',
    severity: 'critical',
    expr: 'absent(holdfast_webhook_certificate_expiry_timestamp_seconds)',
    for: '5m',
    summary: 'No webhook of Holdfast is seen: pods that opt in are not created, or unprotected',
  },
  {
    name: 'HoldfastWebhookFails',
    severity: 'critical',
    expr: 'sum(increase(holdfast_webhook_failures_total[10m])) > 0',
    for: '0m',
    summary: 'Reviews end in a defect of the webhook',
  },
  {
    name: 'HoldfastPodsRefused',
    severity: 'warning',
    expr: 'sum(increase(holdfast_webhook_reviews_total{decision="refuse"}[10m])) > 0',
    for: '0m',
    summary: 'Pods that ask for protection are refused, and so not created',
  },
  {
    name: 'HoldfastCertificateExpires',
    severity: 'warning',
    expr: 'min(holdfast_webhook_certificate_expiry_timestamp_seconds) - time() < 14 * 86400',
    for: '1h',
    summary: 'The certificate of the webhook ends within two weeks and was not renewed',
  },
  {
    name: 'HoldfastReloadRefused',
    severity: 'warning',
    expr: 'sum by (file) (increase(holdfast_webhook_reloads_total{outcome="refused"}[15m])) > 0',
    for: '0m',
    summary: 'The webhook does not take its new {{ $labels.file }} and goes on with the old one',
  },
];
