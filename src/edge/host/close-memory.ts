import { loadLinuxCalls } from './linux-calls.ts';

const setDumpable = 4;

/**
 * Closes this process to others of the same user (PR_SET_DUMPABLE 0): its memory, its environment, its descriptors and what it sees as its
 * root. In a pod with one PID namespace for all containers the application runs as the same user, and would find the key there.
 * False where there are no native calls.
 */
export function closeMemory(): boolean {
  const { calls } = loadLinuxCalls();
  return calls !== undefined && calls.call5(calls.numbers.prctl, setDumpable, 0, 0, 0, 0) === 0;
}
