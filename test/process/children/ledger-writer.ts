/** Writes a ledger without a rest. Usage: node ledger-writer.ts FILE MODE. Prints the number of each committed step, a line each. */
import { writeSync } from 'node:fs';
import { type LedgerMode, makeLedger } from '../ledger.ts';

const [file = '', mode = 'wal'] = process.argv.slice(2);
const ledger = makeLedger(file, mode as LedgerMode);

for (let step = 1; ; step++) {
  ledger.step(step);
  // Only after the commit has returned, and without a buffer in between.
  writeSync(1, `${step}\n`);
}
