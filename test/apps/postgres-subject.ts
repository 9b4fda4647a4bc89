/** PostgreSQL under pgbench, whose accounts, tellers, branches and history must have one sum. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { Program, programPath, ran } from './program.ts';
import type { Subject } from './subject.ts';

/** It refuses to run as root. */
const user: { readonly uid?: number; readonly gid?: number } = process.getuid?.() === 0 ? debianUser() : {};

function debianUser(): { readonly uid: number; readonly gid: number } {
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

function own(path: string): void {
  if (user.uid !== undefined && user.gid !== undefined) chownSync(path, user.uid, user.gid);
}

const dataOf = (volume: string): string => join(volume, 'pgdata');

export class Postgres implements AsyncDisposable {
  readonly #program: Program;
  readonly #sockets: string;

  private constructor(program: Program, sockets: string) {
    this.#program = program;
    this.#sockets = sockets;
  }

  /** Starts it on what stands there, after the recovery that this needs; a cluster is made where there is none. */
  static async start(data: string, sockets: string): Promise<Postgres> {
    mkdirSync(sockets, { recursive: true });
    own(sockets);
    const options = { ...user, cwd: sockets };
    if (!existsSync(data)) {
      mkdirSync(data, { mode: 0o700 });
      own(data);
      const how = [
        '--auth=trust',
        '--username=postgres',
        '--data-checksums',
        '--no-sync',
        '--locale=C',
        '--encoding=UTF8',
      ];
      await ran(programPath('initdb'), ['--pgdata', data, ...how], options);
    }
    // Of a process of another pod, or of the cluster that this is a copy of.
    rmSync(join(data, 'postmaster.pid'), { force: true });
    const settings = {
      listen_addresses: '',
      unix_socket_directories: sockets,
      // As often as may be, so that checkpoints of both kinds meet.
      checkpoint_timeout: '30s',
      max_wal_size: '48MB',
      min_wal_size: '32MB',
      shared_buffers: '16MB',
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const program = new Program(programPath('postgres'), ['-D', data, ...args], options);
    await program.printed(/database system is ready to accept connections/);
    return new Postgres(program, sockets);
  }

  get client(): { readonly args: readonly string[]; readonly options: { readonly cwd: string } } {
    return { args: ['--host', this.#sockets, '--username', 'postgres'], options: { ...user, cwd: this.#sockets } };
  }

  async query(sql: string): Promise<string> {
    const { args, options } = this.client;
    return await ran(programPath('psql'), [...args, '--no-psqlrc', '-qAt', '--command', sql, 'postgres'], options);
  }

  /** Waits until all has been written. */
  async stop(): Promise<void> {
    await this.#program.stop('SIGINT');
  }

  /** All of its processes at once. */
  async kill(): Promise<void> {
    const { pid } = this.#program.child;
    const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid);
    for (const each of [pid, ...children.map(Number)]) {
      try {
        if (each !== undefined) process.kill(each, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    await this.#program.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

function parentOf(pid: string): number {
  try {
    return Number(
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[1],
    );
  } catch {
    return 0;
  }
}

const countSql = 'SELECT count(*) FROM pgbench_history';

export const postgres: Subject = {
  name: 'PostgreSQL under pgbench',
  async start({ volume, place, rests }) {
    const fresh = !existsSync(dataOf(volume));
    chmodSync(place, 0o711);
    const server = await Postgres.start(dataOf(volume), join(place, 'pg'));
    const { args, options } = server.client;
    if (fresh) await ran(programPath('pgbench'), [...args, '-i', '-s', '1', '-q', 'postgres'], options);
    let acknowledged = Number(await server.query(countSql));
    const how = rests ? ['--client', '1', '--rate', '3'] : ['--client', '2'];
    const writers = new Program(programPath('pgbench'), [...args, '-n', '-T', '3600', ...how, 'postgres'], options);
    // Counts what is committed, as a client of its own.
    const reader = new Program(programPath('psql'), [...args, '--no-psqlrc', '-qAt', 'postgres'], options);
    let over = false;
    const reading = (async () => {
      for (let n = 1; !over; n++) {
        reader.child.stdin?.write(`SELECT 'n${n} ' || (${countSql});\n`);
        await reader.printed(new RegExp(`^n${n} \\d+$`, 'm'));
        acknowledged = Number(new RegExp(`^n${n} (\\d+)$`, 'm').exec(reader.output)?.[1]);
        await sleep(100);
      }
    })().catch((error: unknown) => {
      if (!over) throw error;
    });
    const end = async (kill: boolean): Promise<void> => {
      over = true;
      if (kill) await server.kill();
      await writers.stop('SIGTERM');
      await reader.stop('SIGKILL');
      if (!kill) await server.stop();
      await reading;
    };
    return {
      get acknowledged() {
        return acknowledged;
      },
      hooks: { program: 'postgresql.mjs', args: [dataOf(volume)] },
      stop: () => end(false),
      kill: () => end(true),
      [Symbol.asyncDispose]: () => end(true),
    };
  },
  async check(copy) {
    const data = dataOf(copy);
    const server = await Postgres.start(data, `${copy}-run`);
    let count: number;
    try {
      const sums = await server.query(`SELECT
        (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
        (SELECT sum(tbalance) FROM pgbench_tellers) - (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
        (SELECT sum(bbalance) FROM pgbench_branches) - (SELECT coalesce(sum(delta), 0) FROM pgbench_history)`);
      expect(sums).toBe('0|0|0');
      count = Number(await server.query(countSql));
      const { args, options } = server.client;
      const amcheck = ['--install-missing', '--heapallindexed', '--database', 'postgres'];
      await ran(programPath('pg_amcheck'), [...args, ...amcheck], options);
    } finally {
      await server.stop();
    }
    await ran(programPath('pg_checksums'), ['--check', '-D', data], { ...user, cwd: '/' });
    return count;
  },
};
