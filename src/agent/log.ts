/** The agent's log: one JSON object a line, each with a stable `event`, and no secret in any. */
import pino from 'pino';
import type { AgentEvent } from '../contract/events.ts';
import { isHoldfastError } from '../engine/model/errors.ts';
import type { LogLevel } from './settings.ts';

export interface AgentLog {
  debug(event: AgentEvent, fields?: Readonly<Record<string, unknown>>): void;
  info(event: AgentEvent, fields?: Readonly<Record<string, unknown>>): void;
  warn(event: AgentEvent, fields?: Readonly<Record<string, unknown>>): void;
  error(event: AgentEvent, fields?: Readonly<Record<string, unknown>>): void;
}

/** Names under which a secret could come into a field by mistake: of keys, credentials and tokens, here and one level below. */
const secretNames = [
  'key',
  'secret',
  'token',
  'password',
  'authorization',
  'credentials',
  'secretAccessKey',
  'accessKeyId',
  'sessionToken',
];

export function createLog(
  write: (line: string) => void,
  options: { readonly level: LogLevel; readonly lineage: string; readonly podUid: string },
): AgentLog {
  const logger = pino(
    {
      level: options.level,
      base: { lineage: options.lineage, podUid: options.podUid },
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretNames.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
    },
    { write },
  );
  const at =
    (level: LogLevel) =>
    (event: AgentEvent, fields: Readonly<Record<string, unknown>> = {}): void =>
      logger[level]({ event, ...fields });
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** An error as fields of a line: by its code, with what to do, and never with what it was caused by, which others have written. */
export function errorFields(error: unknown): Readonly<Record<string, unknown>> {
  if (isHoldfastError(error)) {
    const { code, message, remedy } = error;
    return { code, message, remedy, ...(code === 'E_INTERNAL' ? { stack: stackOf(error.cause ?? error) } : {}) };
  }
  return { code: 'E_INTERNAL', message: error instanceof Error ? error.message : String(error), stack: stackOf(error) };
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : undefined;
}
