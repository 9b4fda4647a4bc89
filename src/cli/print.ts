/** How things look to people: sizes, times, errors. */
import { styleText } from 'node:util';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Host, Output } from './host.ts';

type Style = Parameters<typeof styleText>[0];

export function styled(output: Output, style: Style, text: string): string {
  return output.colours ? styleText(style, text, { validateStream: false }) : text;
}

/** `1.4 GiB`; exact below a KiB. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < 5) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${'KMGTP'[unit - 1]}iB`;
}

export function formatCount(count: number): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, ',');
}

export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Errors go to stderr in either form; stdout stays for results. */
export function printError(host: Host, error: HoldfastError, json: boolean): void {
  const { stderr } = host;
  if (json) {
    const { code, kind, message, remedy, details } = error;
    stderr.write(`${JSON.stringify({ error: { code, kind, message, remedy, details } })}\n`);
    return;
  }
  stderr.write(`${styled(stderr, ['red', 'bold'], 'error')} ${error.code}: ${error.message}\n`);
  for (let cause = error.cause; cause instanceof HoldfastError; cause = cause.cause) {
    stderr.write(`  because: ${cause.message}\n`);
  }
  stderr.write(`  ${error.remedy}\n`);
  if (error.code === 'E_INTERNAL') {
    const stack = (error.cause instanceof Error ? error.cause.stack : undefined) ?? error.stack ?? '';
    stderr.write(`${stack}\n`);
  }
}
