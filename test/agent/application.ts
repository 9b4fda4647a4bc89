/** A small application: appends numbered lines to a file of the volume that it keeps open, until SIGTERM or a kill. */
import { closeSync, openSync, writeSync } from 'node:fs';

const [file = '', everyMs = '20'] = process.argv.slice(2);
const descriptor = openSync(file, 'a');
let line = 0;
const timer = setInterval(() => writeSync(descriptor, `${line++}\n`), Number(everyMs));
process.on('SIGTERM', () => {
  clearInterval(timer);
  writeSync(descriptor, 'the end\n');
  closeSync(descriptor);
});
process.stdout.write('running\n');
