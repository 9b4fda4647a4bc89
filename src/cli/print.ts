/** How things look to people: sizes, times, errors. */
import { styleText } from 'node:util';
import type { HoldfastError } from '../engine/model/errors.ts';
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

/** `1 file`, `2,000 files`. */
export function formatFiles(count: number): string {
  return `${formatCount(count)} ${count === 1 ? 'file' : 'files'}`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 120) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/**
 * Text of others as it may stand at a terminal: whatever would move its cursor, colour it or turn its direction is shown as `\\xNN` or
 * `\\u{NNNN}`. Names of files are so already.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = (character.codePointAt(0) as number).toString(16);
    return code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u{${code}}`;
  });
}

/** The beginning and the end of what is longer. */
export function shorten(text: string, max: number): string {
  if (text.length <= max) return text;
  const end = Math.floor((max - 1) / 2);
  return `${text.slice(0, max - 1 - end)}…${text.slice(text.length - end)}`;
}

const cellMax = 100;
const nameMax = 200;

/** Columns as wide as they must be; numbers stand to the right. The first row is the head. */
export function printTable(
  output: Output,
  texts: readonly (readonly string[])[],
  { head = true }: { readonly head?: boolean } = {},
): void {
  // The first column names what the row is about, and is there to be copied.
  const rows = texts.map((row) =>
    row.map((cell, i) => (head && i > 0 ? shorten(printable(cell), cellMax) : printable(cell))),
  );
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  const numeric = widths.map(
    (_, i) =>
      head && rows.length > 1 && rows.slice(1).every((row) => /^(?:-|[\d,.]+(?: [KMGTP]?i?B)?)$/.test(row[i] ?? '')),
  );
  for (const [at, row] of rows.entries()) {
    const cells = row.map((cell, i) => (numeric[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)));
    const line = cells.join('  ').trimEnd();
    output.write(`${at === 0 && head ? styled(output, 'bold', line) : line}\n`);
  }
}

export function shortList(names: readonly string[], count: number): string {
  const shown = names
    .slice(0, 5)
    .map((name) => shorten(printable(name), nameMax))
    .join(', ');
  return count > 5 ? `${shown}, …` : shown;
}

/** Errors go to stderr in either form; stdout stays for results. */
export function printError({ stderr }: Pick<Host, 'stderr'>, error: HoldfastError, json: boolean): void {
  if (json) {
    const { code, kind, exit, message, remedy, details } = error;
    stderr.write(`${JSON.stringify({ error: { code, kind, exit, message, remedy, details } })}\n`);
    return;
  }
  stderr.write(`${styled(stderr, ['red', 'bold'], 'error')} ${error.code}: ${printable(error.message)}\n`);
  let said = error.message;
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    // A defect comes with its stack below; and a wrapper often says what it wraps.
    if (error.code === 'E_INTERNAL') break;
    if (!said.includes(cause.message)) stderr.write(`  because: ${printable(cause.message)}\n`);
    said = cause.message;
  }
  stderr.write(`  ${printable(error.remedy)}\n`);
  if (error.code === 'E_INTERNAL') {
    const stack = (error.cause instanceof Error ? error.cause.stack : undefined) ?? error.stack ?? '';
    stderr.write(`${stack}\n`);
  }
}
