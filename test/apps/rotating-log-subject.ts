/** A log writer that rotates: whatever is there is a run of whole lines without a gap, over all its files. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { Program } from './program.ts';
import type { Subject } from './subject.ts';

const writer: string = fileURLToPath(new URL('rotating-writer.ts', import.meta.url));

/** The files from the oldest to the newest, each as its lines; the last of a file may have been cut. */
export function logFiles(directory: string): readonly (readonly string[])[] {
  const names = [6, 5, 4, 3, 2, 1].map((n) => `app.log.${n}`);
  return [...names, 'app.log']
    .filter((name) => existsSync(join(directory, name)))
    .map((name) => readFileSync(join(directory, name), 'utf8').split(/(?<=\n)/));
}

export const isWholeLine = (line: string): boolean => /^\d+ \.* end\n$/.test(line);
export const numberOf = (line: string): number => Number(line.split(' ')[0]);

export const rotatingLog: Subject = {
  name: 'a log writer that rotates',
  async start({ volume, rests }) {
    const before = logFiles(volume).flat().filter(isWholeLine);
    let acknowledged = numberOf(before.at(-1) ?? '0');
    const program = new Program(process.execPath, [writer, volume, String(acknowledged + 1), rests ? 'rests' : '']);
    await program.printed(/^\d+\n/m);
    const last = (): number => Number(/(\d+)\n[^\n]*$/.exec(program.output)?.[1] ?? acknowledged);
    const end = async (signal: NodeJS.Signals): Promise<void> => {
      await program.stop(signal);
      acknowledged = last();
    };
    return {
      get acknowledged() {
        return last();
      },
      hooks: undefined,
      stop: () => end('SIGTERM'),
      kill: () => end('SIGKILL'),
      [Symbol.asyncDispose]: () => end('SIGKILL'),
    };
  },
  async check(copy) {
    const lines = logFiles(copy).flat();
    expect(lines.filter((line) => !isWholeLine(line))).toEqual([]);
    const numbers = lines.map(numberOf);
    expect(numbers).toEqual(numbers.map((_, i) => (numbers[0] ?? 0) + i));
    return numbers.at(-1) ?? 0;
  },
};
