/** `holdfast webhook`: the admission webhook, until it is told to end. */
import { HoldfastError } from '../engine/model/errors.ts';
import { startWebhook } from '../webhook/server.ts';
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
  const paths = { cert: parsed.required('tls-cert'), key: parsed.required('tls-key') };
  const drain = parsed.text('drain');
  const logLevel = parsed.text('log-level') ?? 'info';
  if (!levels.includes(logLevel)) {
    throw usage(command, `--log-level is ${JSON.stringify(logLevel)}, none of ${levels.join(', ')}`);
  }
  const address = addressOf(parsed.text('listen') ?? '0.0.0.0:10250');
  const running = await startWebhook(
    {
      clock: host.clock,
      readSettings: () => host.readSettings(settings),
      readCertificate: () => host.readTlsFiles(paths),
      writeLog: (line) => host.stdout.write(line),
    },
    {
      ...address,
      logLevel,
      lookMs,
      drainMs: drain === undefined ? 5000 : parseDuration(command, 'drain', drain),
    },
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
