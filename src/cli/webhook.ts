/** `holdfast webhook`: the admission webhook, until it is told to end. */
import { HoldfastError } from '../engine/model/errors.ts';
import { CertificateKeeper, type CertificatePlaces } from '../webhook/certificate-keeper.ts';
import type { KubeApi } from '../webhook/kube-api.ts';
import { logTo, startWebhook, type WebhookParts } from '../webhook/server.ts';
import type { Host } from './host.ts';
import { type Parsed, parseDuration, usage } from './options.ts';
import { noArguments } from './session.ts';

const command = 'webhook';
const levels: readonly string[] = ['debug', 'info', 'warn', 'error'];
/** Long enough after a Secret has changed, and cheap: three small files are read. */
const lookMs = 1000;

export async function webhook(host: Host, parsed: Parsed): Promise<number> {
  noArguments(command, parsed);
  const settings = parsed.required('settings');
  const drain = parsed.text('drain');
  const logLevel = parsed.text('log-level') ?? 'info';
  if (!levels.includes(logLevel)) {
    throw usage(command, `--log-level is ${JSON.stringify(logLevel)}, none of ${levels.join(', ')}`);
  }
  const address = addressOf(parsed.text('listen') ?? '0.0.0.0:10250');
  const drainMs = drain === undefined ? 5000 : parseDuration(command, 'drain', drain);
  const writeLog = (line: string): void => void host.stdout.write(line);
  await using cleanup = new AsyncDisposableStack();
  const anchorNamespace = anchorNamespaceOf(parsed);
  const namespaceDefaults = parsed.flag('namespace-defaults');
  const places = keptPlaces(parsed);
  // Where nothing is to be asked, no right and no way to the API server is needed.
  const asks = places !== undefined || anchorNamespace !== undefined || namespaceDefaults;
  const api = asks ? cleanup.use(await host.openKubeApi()) : undefined;
  // Connections that no question of a pod can keep busy: for reviews, and for the certificate.
  const reviewsApi = asks ? cleanup.use(await host.openKubeApi()) : undefined;
  const running = await startWebhook(
    {
      clock: host.clock,
      readSettings: () => host.readSettings(settings),
      ...(await certificateReaders(host, parsed, { logLevel, writeLog, cleanup, api: reviewsApi, places })),
      cluster:
        api === undefined || reviewsApi === undefined
          ? undefined
          : { api, reviewsApi, anchorNamespace, namespaceDefaults },
      writeLog,
    },
    { ...address, logLevel, lookMs, drainMs },
  ).catch((cause: unknown) => {
    throw asListenError(cause, address);
  });
  await new Promise<void>((resolve) => {
    if (host.signal.aborted) resolve();
    else host.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await running.close();
  return 0;
}

interface Surroundings {
  readonly logLevel: string;
  readonly writeLog: (line: string) => void;
  readonly cleanup: AsyncDisposableStack;
  readonly api: KubeApi | undefined;
  readonly places: CertificatePlaces | undefined;
}

/** The namespace of anchors, where pods are answered. */
function anchorNamespaceOf(parsed: Parsed): string | undefined {
  const namespace = parsed.text('pod-service');
  if (namespace === undefined || /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(namespace)) return namespace;
  throw usage(command, `--pod-service is ${JSON.stringify(namespace.slice(0, 100))}, not the name of a namespace`);
}

/** From files, or from the Secret in which the webhooks keep it themselves. */
async function certificateReaders(
  host: Host,
  parsed: Parsed,
  { logLevel, writeLog, cleanup, api, places }: Surroundings,
): Promise<Pick<WebhookParts, 'readCertificate' | 'readServiceCa'>> {
  if (places === undefined || api === undefined) {
    const paths = { cert: parsed.required('tls-cert'), key: parsed.required('tls-key') };
    const authorities = parsed.text('service-ca-file');
    return {
      readCertificate: () => host.readTlsFiles(paths),
      readServiceCa: async () => (authorities === undefined ? undefined : await host.readAuthorities(authorities)),
    };
  }
  const log = logTo(writeLog, logLevel);
  const keeper = new CertificateKeeper(
    {
      clock: host.clock,
      api,
      tools: await host.certificateTools(),
      say: (event, about, isTrouble) =>
        log[isTrouble ? 'warn' : 'info']({ event: `certificate-${event}`, ...about }, `certificate ${event}`),
    },
    places,
  );
  await keeper.start(host.signal);
  const ended = new AbortController();
  const running = keeper.run(ended.signal);
  cleanup.defer(async () => {
    ended.abort();
    await running;
  });
  return { readCertificate: () => keeper.read(), readServiceCa: () => keeper.readAuthorities() };
}

const validityDefault = '90d';
const validityMsMin = 10_000;

/** Undefined where files are named. */
function keptPlaces(parsed: Parsed): CertificatePlaces | undefined {
  const given = parsed.text('tls-secret');
  if (given === undefined) return undefined;
  if (parsed.text('tls-cert') !== undefined || parsed.text('tls-key') !== undefined) {
    throw usage(command, '--tls-secret and --tls-cert, --tls-key: the certificate comes from one of them');
  }
  const [namespace, secret, more] = given.split('/');
  if (!namespace || !secret || more !== undefined) {
    throw usage(command, `--tls-secret is ${JSON.stringify(given)}, not NAMESPACE/NAME`);
  }
  const validityMs = parseDuration(command, 'tls-validity', parsed.text('tls-validity') ?? validityDefault);
  if (validityMs < validityMsMin) throw usage(command, '--tls-validity is less than 10s');
  const configuration = parsed.required('webhook-configuration');
  return { namespace, secret, configuration, name: parsed.required('tls-name'), validityMs };
}

/** `HOST:PORT`, `[::]:PORT` or `:PORT`. */
function addressOf(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? -1);
  if (match === null || port > 65_535) {
    throw usage(command, `--listen is ${JSON.stringify(text)}, not an address such as 0.0.0.0:10250`);
  }
  return { host: match[1] ?? (match[2] === '' ? '0.0.0.0' : (match[2] as string)), port };
}

function asListenError(cause: unknown, { host, port }: { readonly host: string; readonly port: number }): unknown {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  if (!['EADDRINUSE', 'EADDRNOTAVAIL', 'EACCES', 'ENOTFOUND'].includes(code)) return cause;
  return new HoldfastError('E_USAGE', `cannot listen on ${host}:${port}: ${code}`, {
    cause,
    remedy: 'Give another address with --listen HOST:PORT.',
  });
}
