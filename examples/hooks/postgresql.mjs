/**
 * Hooks for PostgreSQL:
 *
 *     node postgresql.mjs /vol/pgdata /run/hooks/hooks.sock
 *
 * PostgreSQL has no command that keeps its files as they are, so its processes are stopped (SIGSTOP), the postmaster first, and continued
 * after the checkpoint. What the files show meanwhile is what a power cut at that moment would have left, and is recovered from
 * in the same way: keep `full_page_writes` and `fsync` on, as they are by default. All of the cluster must lie in protected volumes of the
 * pod: tablespaces and the WAL too.
 *
 * Run it as PostgreSQL's own user, where it sees its processes: in its container, or in one of the pod with `shareProcessNamespace`.
 * A process of its own continues them after `holdSecondsMax`, should this one be killed meanwhile.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { serveHooks } from './serve-hooks.mjs';

const [directory = '', listen = ''] = process.argv.slice(2);
const holdSecondsMax = 30;
const stopMsMax = 5000;

/** Of a process: who started it, and whether it is stopped or has ended. */
function stateOf(pid) {
  try {
    // The name, in brackets, may hold anything.
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return { parent: Number(parent), still: 'TtZX'.includes(state) };
  } catch {
    return { parent: 0, still: true };
  }
}

/** The postmaster and its children; none while it does not run. */
function processes() {
  let postmaster;
  try {
    postmaster = Number(readFileSync(join(directory, 'postmaster.pid'), 'utf8').split('\n')[0]);
  } catch {
    return [];
  }
  // A file that an earlier server has left names anybody.
  if (!commandOf(postmaster).includes('postgres')) return [];
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return [postmaster, ...all.map(Number).filter((pid) => stateOf(pid).parent === postmaster)];
}

function commandOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

function signal(pids, name) {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  }
}

let watchdog;

await serveHooks({
  listen,
  holdSecondsMax,
  async hold() {
    const pids = processes();
    if (pids.length === 0) return;
    const script = `sleep ${holdSecondsMax}; kill -CONT ${pids.join(' ')}`;
    watchdog = spawn('sh', ['-c', script], { detached: true, stdio: 'ignore' });
    watchdog.unref();
    for (const giveUp = performance.now() + stopMsMax; ; await sleep(2)) {
      // Again and again: a child may have come before the postmaster stood still.
      const found = processes();
      signal(found, 'SIGSTOP');
      if (found.every((pid) => stateOf(pid).still)) return;
      if (performance.now() > giveUp) throw new Error('PostgreSQL does not stand still');
    }
  },
  go() {
    signal(processes().reverse(), 'SIGCONT');
    if (watchdog?.pid !== undefined) signal([-watchdog.pid], 'SIGKILL');
    watchdog = undefined;
  },
});
