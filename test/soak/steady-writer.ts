/**
 * An application that changes all the time and does not grow: files that are replaced, that come and go, and that are written in place, and a log
 * that starts anew when it is full. Usage: node steady-writer.ts DIRECTORY. Ends at SIGTERM.
 */
import { randomBytes, randomInt } from 'node:crypto';
import { appendFileSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const [directory = ''] = process.argv.slice(2);
const files = 2000;
const logBytesMax = 512 * 1024;
const at = (name: string): string => join(directory, name);
const content = (): Buffer => randomBytes(200 + randomInt(6000));
const fileAt = (n: number): string => at(join(`d${n % 20}`, `f${n}`));

for (let n = 0; n < 20; n++) mkdirSync(at(`d${n}`), { recursive: true });
for (let n = 0; n < files; n++) writeFileSync(fileAt(n), content());
writeFileSync(at('pages'), randomBytes(1024 * 1024));
const pages = openSync(at('pages'), 'r+');
let over = false;
process.on('SIGTERM', () => {
  over = true;
});
process.stdout.write('begun\n');
for (let round = 0; !over; round++) {
  for (let n = 0; n < 5; n++) {
    const path = fileAt(randomInt(files));
    writeFileSync(`${path}.new`, content());
    renameSync(`${path}.new`, path);
  }
  rmSync(at(`scratch-${(round + 3) % 6}`), { recursive: true, force: true });
  mkdirSync(at(`scratch-${round % 6}`), { recursive: true });
  writeFileSync(at(`scratch-${round % 6}/part`), content());
  writeSync(pages, randomBytes(4096), 0, 4096, 4096 * randomInt(256));
  appendFileSync(at('app.log'), `${round} ${randomBytes(100).toString('hex')}\n`.repeat(20));
  if (statSync(at('app.log')).size > logBytesMax) renameSync(at('app.log'), at('app.log.1'));
  await new Promise((resolve) => setTimeout(resolve, 250));
}
