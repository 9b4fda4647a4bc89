/**
 * Keeps a bank in SQLite in WAL mode: bursts of transfers, moments of rest, and now and then a transaction that has spilled into
 * the WAL and rests before it commits. Usage: node bank-writer.ts FILE. Prints the number of committed transfers, a line each,
 * with `within` before it while a long transaction waits.
 */
import { writeSync } from 'node:fs';
import { openBank } from '../bank.ts';

const [file = ''] = process.argv.slice(2);
const bank = openBank(file, { checkpointPages: 30 });
const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

for (let round = 0, committed = 0; ; round++) {
  if (round % 4 === 3) {
    committed += await bank.longTransfer(round, () => {
      writeSync(1, `within ${committed}\n`);
      return rest(800);
    });
  } else {
    for (let i = 0; i < 1 + (round % 5) * 4; i++) {
      bank.transfer(round * 31 + i);
      committed++;
    }
  }
  // Only after the commit has returned, and without a buffer in between.
  writeSync(1, `${committed}\n`);
  await rest(100 + ((round * 37) % 100));
}
