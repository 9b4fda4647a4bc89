/**
 * An application that writes into a directory as fast as it likes until it is killed: a log that grows, a document that is
 * replaced by renames, files that come and go, a file that is changed in place, and a bank in SQLite in WAL mode.
 * Usage: node application.ts DIRECTORY. Prints one line when it has begun.
 */
import { appendFileSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { openBank } from '../bank.ts';

const [directory = ''] = process.argv.slice(2);
const at = (name: string): string => join(directory, name);
mkdirSync(at('scratch'), { recursive: true });
const bank = openBank(at('bank.db'));
writeFileSync(at('pages.bin'), new Uint8Array(256 * 1024));
const pages = openSync(at('pages.bin'), 'r+');
const page = new Uint8Array(4096);

for (let round = 0; ; round++) {
  appendFileSync(at('app.log'), `${round} ${'work '.repeat(round % 50)}\n`);
  writeFileSync(at('state.tmp'), JSON.stringify({ round, padding: 'x'.repeat(round % 5000) }));
  renameSync(at('state.tmp'), at('state.json'));
  writeFileSync(at(`scratch/${round % 40}`), page.fill(round).subarray(0, 1 + (round % 4096)));
  if (round % 7 === 0) rmSync(at(`scratch/${(round * 3) % 40}`), { force: true });
  writeSync(pages, page, 0, page.length, (round % 64) * 4096);
  bank.transfer(round);
  if (round === 0) process.stdout.write('begun\n');
  // Leaves moments without change, as most applications do.
  if (round % 4 === 0) await new Promise((resolve) => setTimeout(resolve, round % 20));
}
