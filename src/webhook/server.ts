/**
 * The process around the decisions: HTTPS for the API server and for pods, health and metrics, and files that are read again when they
 * change.
 *
 * A review costs a parse, a decision and a patch, all in memory. Only where annotations of namespaces count is something asked, once a
 * second for each namespace at the most. What it was about is never logged, only what came of it.
 */
import Fastify, { type FastifyInstance } from 'fastify';
import pino from 'pino';
import { type HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Clock } from '../engine/ports/clock.ts';
import { isOptedIn } from './decide.ts';
import type { Decision } from './decision.ts';
import type { KubeApi } from './kube-api.ts';
import { WebhookMetrics } from './metrics.ts';
import { NamespaceAnnotations } from './namespace-annotations.ts';
import { type Answer, answerRequest, readRequest, respond } from './respond.ts';
import { PodService, type ToldAnswer } from './service/pod-service.ts';
import { defaultAudience, parseSettings, type WebhookSettings } from './settings.ts';

export interface WebhookCertificate {
  readonly cert: string;
  readonly key: string;
  readonly validUntilMs: number;
}

export interface WebhookParts {
  readonly clock: Clock;
  /** Each as it is now; E_USAGE when it cannot be used. */
  readonly readSettings: () => Promise<string>;
  readonly readCertificate: () => Promise<WebhookCertificate>;
  /** What pods verify that certificate with, as PEM; undefined where they have it otherwise. */
  readonly readServiceCa: () => Promise<string | undefined>;
  /** What is asked of the API server; undefined: nothing. */
  readonly cluster: ClusterParts | undefined;
  /** A line of the log. */
  readonly writeLog: (line: string) => void;
}

export interface ClusterParts {
  /** For what pods ask. */
  readonly api: KubeApi;
  /** For reviews, on connections of their own: however many pods ask, no review waits behind them. */
  readonly reviewsApi: KubeApi;
  /** Where anchors are kept; undefined: pods are not answered. */
  readonly anchorNamespace: string | undefined;
  /** Whether the annotations of a namespace count for its pods. */
  readonly namespaceDefaults: boolean;
}

export interface WebhookOptions {
  readonly host: string;
  /** 0 for any. */
  readonly port: number;
  readonly logLevel: string;
  /** How often files are looked at. */
  readonly lookMs: number;
  /** How long it goes on answering after it was told to end, since the API server learns of it late. */
  readonly drainMs: number;
}

export interface RunningWebhook {
  readonly port: number;
  /** Says that it is not ready, answers for `drainMs` more and whatever is under way, and ends. */
  close(): Promise<void>;
}

/** Reviews of the largest objects that etcd takes fit in; the API server's own bound is 3 MB as well. */
const bodyBytesMax = 3 * 1024 * 1024;

/** E_USAGE when settings or certificate cannot be used, or the address cannot be listened on. */
export async function startWebhook(parts: WebhookParts, options: WebhookOptions): Promise<RunningWebhook> {
  const log = logTo(parts.writeLog, options.logLevel);
  const metrics = new WebhookMetrics();
  const settingsText = await parts.readSettings();
  const certificate = await parts.readCertificate();
  const serviceCa = await parts.readServiceCa();
  const state: ServerState = { settings: withServiceCa(parseSettings(settingsText), serviceCa), isReady: true };
  const { clock, cluster } = parts;
  const app = serverOf(state, { certificate, metrics, clock, log, cluster });
  metrics.certificate(certificate.validUntilMs);
  await app.listen({ host: options.host, port: options.port });
  const bound = app.server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : options.port;
  log.info({ event: 'listening', host: options.host, port }, 'ready for reviews');
  const ended = new AbortController();
  const looking = lookForChanges(
    parts,
    app,
    state,
    { certificate, settingsText, serviceCa, metrics, log, ...options },
    ended.signal,
  );
  const tidying = state.service?.tidy(ended.signal);
  return {
    port,
    async close() {
      state.isReady = false;
      log.info({ event: 'draining', seconds: options.drainMs / 1000 }, 'told to end');
      ended.abort();
      await Promise.all([looking, tidying]);
      await parts.clock.wait(options.drainMs);
      await app.close();
      log.info({ event: 'ended' }, 'ended');
    },
  };
}

interface ServerState {
  settings: WebhookSettings;
  isReady: boolean;
  service?: PodService;
}

export type Log = pino.Logger;

export function logTo(write: (line: string) => void, level: string): Log {
  return pino(
    {
      level,
      base: {},
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write },
  );
}

/** What pods get that the settings give no other: the CA of this process. */
function withServiceCa(settings: WebhookSettings, ca: string | undefined): WebhookSettings {
  const { service } = settings;
  if (service === undefined || service.ca !== undefined || service.caConfigMap !== undefined) return settings;
  return { ...settings, service: { ...service, ca } };
}

interface Surroundings {
  readonly certificate: WebhookCertificate;
  readonly metrics: WebhookMetrics;
  readonly clock: Clock;
  readonly log: Log;
  readonly cluster: ClusterParts | undefined;
}

function serverOf(state: ServerState, { certificate, metrics, clock, log, cluster }: Surroundings): FastifyInstance {
  const { cert, key } = certificate;
  const app = Fastify({
    https: { cert, key, minVersion: 'TLSv1.2' },
    bodyLimit: bodyBytesMax,
    // A body that does not come must not hold a connection for ever.
    requestTimeout: 15_000,
    connectionTimeout: 30_000,
    // While it closes, what comes on open connections is still answered as always.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
  }) as unknown as FastifyInstance;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_, body, done) => done(null, body));

  const namespaces =
    cluster?.namespaceDefaults === true ? new NamespaceAnnotations(cluster.reviewsApi, clock) : undefined;
  app.post('/mutate', async (request, reply) => {
    const startedMs = clock.monotonicMs();
    const answer = await reviewed((request.body as Buffer | undefined)?.toString('utf8') ?? '', state, namespaces);
    metrics.answered(
      answer.kind === 'reviewed' ? answer.decision : undefined,
      (clock.monotonicMs() - startedMs) / 1000,
    );
    logAnswer(log, answer);
    reply.type('application/json');
    if (answer.kind === 'reviewed') return reply.send(answer.body);
    return reply.code(400).send(JSON.stringify({ error: answer.message }));
  });
  const health = (isReadiness: boolean) => (): string => {
    if (isReadiness && !state.isReady) throw Object.assign(new Error('told to end'), { statusCode: 503 });
    return 'ok\n';
  };
  app.get('/healthz', health(false));
  app.get('/readyz', health(true));
  app.get('/metrics', async (_, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );

  if (cluster?.anchorNamespace !== undefined) {
    state.service = new PodService({
      api: cluster.api,
      clock,
      namespace: cluster.anchorNamespace,
      settings: () => ({
        cluster: state.settings.cluster,
        audience: state.settings.service?.audience ?? defaultAudience,
      }),
      onAnswer: (told) => {
        metrics.asked(told);
        logQuestion(log, told);
      },
      onSwept: (count, error) => {
        if (error !== undefined)
          log.warn({ event: 'not-swept', code: error.code, remedy: error.remedy }, error.message);
        else log.debug({ event: 'swept', count }, 'anchors of Jobs that are over');
      },
    });
    state.service.serve(app);
  }

  app.setNotFoundHandler((_, reply) => reply.code(404).type('text/plain').send('not found\n'));
  app.setErrorHandler((error, _, reply) => {
    if (isHoldfastError(error, 'E_CLUSTER_UNREACHABLE', 'E_CLUSTER_REFUSED')) {
      log.warn({ event: 'not-reviewed', code: error.code, remedy: error.remedy }, error.message);
      return reply.code(503).type('text/plain').send(`${error.message}\n`);
    }
    const { statusCode = 500, message, stack } = error as Error & { readonly statusCode?: number };
    if (statusCode < 500 || statusCode === 503) return reply.code(statusCode).type('text/plain').send(`${message}\n`);
    metrics.failed();
    log.error({ event: 'failed', stack }, message);
    return reply.code(500).type('text/plain').send('failed; the log of the webhook says why\n');
  });
  return app;
}

/** The whole answer; E_CLUSTER_* where the namespace of a pod that opted in is not known. */
async function reviewed(
  text: string,
  state: ServerState,
  namespaces: NamespaceAnnotations | undefined,
): Promise<Answer> {
  if (namespaces === undefined) return respond(text, state.settings);
  const read = readRequest(text);
  if ('kind' in read) return read;
  const annotations = isOptedIn(read.request) ? await namespaces.of(read.request.namespace) : {};
  return answerRequest(read.request, state.settings, annotations);
}

/** Who asked and what came of it. Contradictions are for somebody to look at; whoever is not known may write here as often as he likes. */
function logQuestion(log: Log, { question, outcome, caller, lineage, detail }: ToldAnswer): void {
  const level = outcome === 'conflict' ? 'error' : outcome === 'silent' ? 'warn' : 'debug';
  log[level](
    { event: 'asked', question, outcome, namespace: caller?.namespace, pod: caller?.podName, lineage },
    detail,
  );
}

/** Who it was about and what came of it; nothing else of the pod. */
function logAnswer(log: Log, answer: Answer): void {
  if (answer.kind === 'malformed') {
    log.warn({ event: 'malformed' }, answer.message);
    return;
  }
  const { decision, request } = answer;
  const about = { uid: request.uid, namespace: request.namespace };
  switch (decision.kind) {
    case 'skip':
      log.debug({ event: 'skipped', ...about, reason: decision.reason, warnings: decision.warnings }, 'left alone');
      return;
    case 'refuse':
      log.warn({ event: 'refused', ...about, refusals: refusalsOf(decision) }, 'refused');
      return;
    case 'inject': {
      const { lineage, volumes, store } = decision.injection;
      const names = volumes.map(({ name }) => name);
      log.info(
        {
          event: 'injected',
          ...about,
          lineage: lineage.workload,
          store: store.name,
          volumes: names,
          warnings: decision.warnings,
        },
        'injected',
      );
    }
  }
}

/** Without the values: what people write into the wrong annotation may be a secret. */
function refusalsOf({ refusals }: Extract<Decision, { kind: 'refuse' }>): readonly string[] {
  return refusals.slice(0, 8).map(({ annotation, reason }) => `${annotation}: ${reason}`);
}

interface Watched {
  readonly certificate: WebhookCertificate;
  readonly settingsText: string;
  readonly serviceCa: string | undefined;
  readonly metrics: WebhookMetrics;
  readonly log: Log;
  readonly lookMs: number;
}

/**
 * Looks at the files again and again: events of a mounted Secret are those of links that are replaced, which not every file system
 * tells of. What cannot be used is said once, and what was in use stays.
 */
async function lookForChanges(
  parts: WebhookParts,
  app: FastifyInstance,
  state: ServerState,
  { certificate, settingsText, serviceCa, metrics, log, lookMs }: Watched,
  signal: AbortSignal,
): Promise<void> {
  const used = {
    certificate: `${certificate.cert}${certificate.key}`,
    settings: settingsText,
    'service-ca': serviceCa ?? '',
  };
  let parsed = parseSettings(settingsText);
  const refused: Partial<Record<keyof typeof used, string>> = {};
  const attempt = async (file: keyof typeof used, use: () => Promise<boolean>): Promise<void> => {
    try {
      const isNew = await use();
      if (refused[file] !== undefined || isNew) log.info({ event: 'reloaded', file }, `${file} in use`);
      if (isNew) metrics.reloaded(file, 'used');
      delete refused[file];
    } catch (error) {
      const { message } = error as HoldfastError;
      if (refused[file] === message) return;
      refused[file] = message;
      metrics.reloaded(file, 'refused');
      log.error({ event: 'reload-refused', file, remedy: isHoldfastError(error) ? error.remedy : undefined }, message);
    }
  };
  for (;;) {
    try {
      await parts.clock.wait(lookMs, { signal });
    } catch (error) {
      if (isHoldfastError(error, 'E_ABORTED')) return;
      throw error;
    }
    await attempt('certificate', async () => {
      const { cert, key, validUntilMs } = await parts.readCertificate();
      if (used.certificate === `${cert}${key}`) return false;
      // Connections that stand keep the old one.
      (app.server as unknown as { setSecureContext(options: object): void }).setSecureContext({
        cert,
        key,
        minVersion: 'TLSv1.2',
      });
      used.certificate = `${cert}${key}`;
      metrics.certificate(validUntilMs);
      return true;
    });
    await attempt('settings', async () => {
      const text = await parts.readSettings();
      if (used.settings === text) return false;
      parsed = parseSettings(text);
      state.settings = withServiceCa(parsed, used['service-ca'] || undefined);
      used.settings = text;
      return true;
    });
    await attempt('service-ca', async () => {
      const ca = await parts.readServiceCa();
      if (used['service-ca'] === (ca ?? '')) return false;
      state.settings = withServiceCa(parsed, ca);
      used['service-ca'] = ca ?? '';
      return true;
    });
  }
}
