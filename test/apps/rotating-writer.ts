/**
 * A log writer that rotates: numbered lines into `app.log`, which becomes `app.log.1` when it is full, and so on up to the last, which goes.
 * Usage: node rotating-writer.ts DIRECTORY FIRST RESTS. Prints the number of each line that is written.
 */
import { closeSync, existsSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const [directory = '', first = '1', rests = ''] = process.argv.slice(2);
const linesInOne = 150;
const kept = 6;
const at = (n: number): string => join(directory, n === 0 ? 'app.log' : `app.log.${n}`);

let descriptor = openSync(at(0), 'a');
let lines = 0;
let over = false;
process.on('SIGTERM', () => {
  over = true;
});
for (let line = Number(first); !over; line++) {
  if (lines === linesInOne) {
    closeSync(descriptor);
    for (let n = kept - 1; n >= 0; n--) if (existsSync(at(n))) renameSync(at(n), at(n + 1));
    descriptor = openSync(at(0), 'a');
    lines = 0;
  }
  writeSync(descriptor, `${line} ${'.'.repeat(line % 90)} end\n`);
  lines++;
  writeSync(1, `${line}\n`);
  if (line % 50 === 0 || rests === '') await new Promise((resolve) => setTimeout(resolve, rests === '' ? 1 : 350));
}
