/**
 * What an application loses to an agent that checkpoints its volume every 10 s: transactions a second of SQLite and of PostgreSQL's
 * pgbench, without and with an agent beside it, in pairs that take turns.
 *
 *     npm run build && node bench/overhead.ts DIRECTORY [--only sqlite|pgbench] [--rounds N] [--seconds N] [--store DIRECTORY] [-- AGENT-OPTION…]
 *
 * The store is a directory beside the volume, or below --store: one in memory leaves out what a disk loses that both share, as a bucket does.
 * Needs a machine with two processors that do nothing else: what everything else used is printed with each run.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Postgres } from '../test/apps/postgres-server.ts';
import { programPath, ran } from '../test/apps/program.ts';

const binary = join(import.meta.dirname, '../bin/holdfast');
const ticksPerSecond = 100;

const given = process.argv.slice(2);
const split = given.includes('--') ? given.indexOf('--') : given.length;
const agentOptions = given.slice(split + 1);
const { values, positionals } = parseArgs({
  args: given.slice(0, split),
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '60' },
    store: { type: 'string' },
  },
});
const [directory] = positionals;
if (directory === undefined) throw new Error('which directory?');
const seconds = Number(values.seconds);
mkdirSync(directory, { recursive: true });
const place = mkdtempSync(join(directory, 'overhead-'));
// PostgreSQL runs as another user.
chmodSync(place, 0o711);

const storePlace = values.store === undefined ? place : mkdtempSync(join(values.store, 'overhead-'));

/** An application with a volume: what it does a second, measured over the time of one run. */
interface Load {
  readonly name: string;
  readonly volume: string;
  run(): Promise<number>;
  end(): Promise<void>;
}

async function sqlite(): Promise<Load> {
  const volume = join(place, 'sqlite');
  mkdirSync(volume);
  const args = [join(import.meta.dirname, 'sqlite-load.ts'), join(volume, 'app.db'), String(seconds)];
  return {
    name: 'SQLite, one writer',
    volume,
    run: async () => Number(await ran(process.execPath, args)),
    end: async () => undefined,
  };
}

async function pgbench(): Promise<Load> {
  const volume = join(place, 'pg');
  mkdirSync(volume);
  const server = await Postgres.start(join(volume, 'pgdata'), join(place, 'sockets'), {});
  const { args, options } = server.client;
  await ran(programPath('pgbench'), [...args, '-i', '-s', '10', '-q', 'postgres'], options);
  return {
    name: 'PostgreSQL, pgbench, scale 10, 2 clients',
    volume,
    async run() {
      const told = await ran(
        programPath('pgbench'),
        [...args, '-n', '-c', '2', '-T', String(seconds), 'postgres'],
        options,
      );
      return Number(/tps = ([\d.]+)/.exec(told)?.[1]);
    },
    end: () => server.stop(),
  };
}

interface Agent {
  readonly child: ChildProcess;
  readonly committed: Record<string, unknown>[];
  end(): Promise<void>;
}

async function startAgent(volume: string, store: string): Promise<Agent> {
  const env = {
    ...process.env,
    HOLDFAST_STORE: `file:${store}`,
    HOLDFAST_KEY_FILE: `${store}.key`,
    HOLDFAST_LINEAGE: 'team/app/0',
    HOLDFAST_STATE_DIR: `${store}.state`,
  };
  execFileSync(binary, ['init'], { env });
  const args = ['agent', '--volume', `data=${volume}`, '--pod-uid', 'pod-1', '--schedule', '10s', '--grace', '5s'];
  const child = spawn(binary, [...args, ...agentOptions], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const committed: Record<string, unknown>[] = [];
  // The first checkpoint stores everything, which is another figure.
  await new Promise<void>((resolve) => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const told = JSON.parse(line) as Record<string, unknown>;
      if (told['event'] !== 'committed') return;
      committed.push(told);
      resolve();
    });
  });
  return {
    child,
    committed,
    async end() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

/** Seconds of processor: of all processes of the machine, of one. */
function machineBusySeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (
    /^cpu\s+(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? ''
  )
    .split(' ')
    .map(Number);
  return (user + nice + system + irq + softirq) / ticksPerSecond;
}

function busySeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

interface Run {
  readonly perSecond: number;
  readonly machineCores: number;
  readonly agentCores: number;
  readonly checkpoints: number;
}

/** A session of its own outlives a terminal that is closed and a bench that is killed, so it is told. */
const running = new Set<Agent>();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const { child } of running) child.kill('SIGKILL');
    for (const path of [place, storePlace]) rmSync(path, { recursive: true, force: true });
    process.exit(130);
  });
}

let stores = 0;
async function measure(load: Load, withAgent: boolean): Promise<Run> {
  const agent = withAgent ? await startAgent(load.volume, join(storePlace, `store-${stores++}`)) : undefined;
  if (agent !== undefined) running.add(agent);
  try {
    const [machine, own] = [machineBusySeconds(), agent === undefined ? 0 : busySeconds(agent.child.pid as number)];
    const before = agent?.committed.length ?? 0;
    const perSecond = await load.run();
    const agentCores = agent === undefined ? 0 : (busySeconds(agent.child.pid as number) - own) / seconds;
    return {
      perSecond,
      machineCores: (machineBusySeconds() - machine) / seconds,
      agentCores,
      checkpoints: (agent?.committed.length ?? 0) - before,
    };
  } finally {
    await agent?.end();
    if (agent !== undefined) running.delete(agent);
  }
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

try {
  for (const [name, start] of Object.entries({ sqlite, pgbench })) {
    if (values.only !== undefined && values.only !== name) continue;
    const load = await start();
    await load.run();
    const lost: number[] = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      const runs = new Map<boolean, Run>();
      for (const withAgent of round % 2 === 0 ? [false, true] : [true, false]) {
        const run = await measure(load, withAgent);
        runs.set(withAgent, run);
        console.log(
          `${load.name}, ${withAgent ? 'with' : 'without'} an agent: ${run.perSecond.toFixed(0)}/s, machine ${run.machineCores.toFixed(2)} cores, ` +
            `agent ${run.agentCores.toFixed(2)} cores, ${run.checkpoints} checkpoints`,
        );
      }
      lost.push(1 - (runs.get(true)?.perSecond ?? 0) / (runs.get(false)?.perSecond ?? 0));
    }
    const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
    console.log(`${load.name}: lost ${percent(median(lost))} (${lost.map(percent).join(', ')})`);
    await load.end();
  }
} finally {
  for (const path of [place, storePlace]) rmSync(path, { recursive: true, force: true });
}
