/** What the webhook counts, for Prometheus; docs/kubernetes.md, "Metrics", lists the same. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Decision } from './decision.ts';
import type { ToldAnswer } from './service/pod-service.ts';

export class WebhookMetrics {
  readonly registry: Registry = new Registry();
  readonly #reviews = new Counter({
    name: 'holdfast_webhook_reviews_total',
    help: 'Reviews that were answered, by decision (inject, skip, refuse, malformed) and by reason of what was skipped',
    labelNames: ['decision', 'reason'],
    registers: [this.registry],
  });
  readonly #seconds = new Histogram({
    name: 'holdfast_webhook_review_seconds',
    help: 'Time from the whole body of a review to its answer',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1],
    registers: [this.registry],
  });
  readonly #validUntil = new Gauge({
    name: 'holdfast_webhook_certificate_expiry_timestamp_seconds',
    help: 'End of the validity of the certificate in use',
    registers: [this.registry],
  });
  readonly #reloads = new Counter({
    name: 'holdfast_webhook_reloads_total',
    help: 'Files (certificate, settings, service-ca) that changed and were read again, by outcome (used, refused)',
    labelNames: ['file', 'outcome'],
    registers: [this.registry],
  });
  readonly #failures = new Counter({
    name: 'holdfast_webhook_failures_total',
    help: 'Reviews that ended in a defect of the webhook',
    registers: [this.registry],
  });

  readonly #questions = new Counter({
    name: 'holdfast_webhook_questions_total',
    help: 'Questions and reports of pods, by question (gone, anchor-find, anchor-report) and by outcome (answered, denied, malformed, conflict, silent, busy)',
    labelNames: ['question', 'outcome'],
    registers: [this.registry],
  });

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  answered(decision: Decision | undefined, seconds: number): void {
    const reason = decision?.kind === 'skip' ? decision.reason : '';
    this.#reviews.inc({ decision: decision?.kind ?? 'malformed', reason });
    this.#seconds.observe(seconds);
  }

  certificate(validUntilMs: number): void {
    this.#validUntil.set(validUntilMs / 1000);
  }

  /** What a pod asked of the service, and what came of it. */
  asked({ question, outcome }: Pick<ToldAnswer, 'question' | 'outcome'>): void {
    this.#questions.inc({ question, outcome });
  }

  reloaded(file: 'certificate' | 'settings' | 'service-ca', outcome: 'used' | 'refused'): void {
    this.#reloads.inc({ file, outcome });
  }

  failed(): void {
    this.#failures.inc();
  }
}
