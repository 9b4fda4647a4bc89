/** What the demo prints. */
import { styleText } from 'node:util';

const mebibyte = 1024 * 1024;

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function title(text: string): void {
  say(`\n${styled('bold', text)}`);
}

export function styled(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

export function megabytes(bytes: number): string {
  return bytes < 0.1 * mebibyte ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / mebibyte).toFixed(1)} MiB`;
}

/** Says whether something holds, and remembers what does not. */
export class Checks {
  readonly failures: string[] = [];

  check(what: string, holds: boolean, detail = ''): void {
    const mark = holds ? styled('green', '✓') : styled('red', '✗');
    say(`  ${mark} ${what}${detail === '' ? '' : styled('dim', `  ${detail}`)}`);
    if (!holds) this.failures.push(what);
  }
}
