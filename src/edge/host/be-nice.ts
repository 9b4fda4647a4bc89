/** Steps back behind the application: a lower priority for processors, and the disk only when nobody else wants it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { loadLinuxCalls } from './linux-calls.ts';

/** Where the application keeps all processors busy, this is a share of 3 %; 10 would be 10 %. */
const niceness = 15;
const ioprioSet: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 251, arm64: 30 };
const [whoIsProcess, classIdle, classShift] = [1, 3, 13];

/** Of this thread and of those that it starts from now on. What the system refuses is left as it is. */
export function beNice(): void {
  try {
    setPriority(0, niceness);
  } catch {
    // Then not.
  }
  stepBackAsSession();
  const number = process.platform === 'linux' ? ioprioSet[process.arch] : undefined;
  if (number !== undefined) loadLinuxCalls().calls?.call3(number, whoIsProcess, 0, classIdle << classShift);
}

/**
 * Where the kernel divides processors between sessions (autogroup), niceness counts within one alone: a session of this process's own
 * steps back as a whole. Containers have groups of their own, and there this changes nothing.
 */
function stepBackAsSession(): void {
  try {
    const [, , , session] = readFileSync('/proc/self/stat', 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    if (Number(session) === process.pid) writeFileSync('/proc/self/autogroup', String(niceness));
  } catch {
    // Then not.
  }
}
