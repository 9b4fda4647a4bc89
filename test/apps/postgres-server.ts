/** A server of PostgreSQL on a directory of a test's own, reached by a unix socket alone. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Program, programPath, ran } from './program.ts';

/** It refuses to run as root. */
export const postgresUser: { readonly uid?: number; readonly gid?: number } =
  process.getuid?.() === 0 ? debianUser() : {};

function debianUser(): { readonly uid: number; readonly gid: number } {
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

function own(path: string): void {
  if (postgresUser.uid !== undefined && postgresUser.gid !== undefined)
    chownSync(path, postgresUser.uid, postgresUser.gid);
}

/** Checkpoints of its own as often as may be, so that checkpoints of both kinds meet. */
const small: Readonly<Record<string, string>> = {
  checkpoint_timeout: '30s',
  max_wal_size: '48MB',
  min_wal_size: '32MB',
  shared_buffers: '16MB',
};

export class Postgres implements AsyncDisposable {
  readonly #program: Program;
  readonly #data: string;
  readonly #sockets: string;

  private constructor(program: Program, data: string, sockets: string) {
    this.#program = program;
    this.#data = data;
    this.#sockets = sockets;
  }

  /** Starts it on what stands there, after the recovery that this needs; a cluster is made where there is none. */
  static async start(
    data: string,
    sockets: string,
    settings: Readonly<Record<string, string>> = small,
  ): Promise<Postgres> {
    mkdirSync(sockets, { recursive: true });
    own(sockets);
    const options = { ...postgresUser, cwd: sockets };
    if (!existsSync(data)) {
      mkdirSync(data, { mode: 0o700 });
      own(data);
      const how = ['--auth=trust', '--data-checksums', '--no-sync', '--locale=C', '--encoding=UTF8'];
      await ran(programPath('initdb'), ['--pgdata', data, '--username=postgres', ...how], options);
    }
    // Of a process of another pod, or of the cluster that this is a copy of.
    rmSync(join(data, 'postmaster.pid'), { force: true });
    const where = { listen_addresses: '', unix_socket_directories: sockets };
    const args = Object.entries({ ...where, ...settings }).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const program = new Program(programPath('postgres'), ['-D', data, ...args], options);
    await program.printed(/database system is ready to accept connections/);
    return new Postgres(program, data, sockets);
  }

  get client(): { readonly args: readonly string[]; readonly options: { readonly cwd: string } } {
    return {
      args: ['--host', this.#sockets, '--username', 'postgres'],
      options: { ...postgresUser, cwd: this.#sockets },
    };
  }

  async query(sql: string): Promise<string> {
    const { args, options } = this.client;
    return await ran(programPath('psql'), [...args, '--no-psqlrc', '-qAt', '--command', sql, 'postgres'], options);
  }

  /** Waits until all has been written. */
  async stop(): Promise<void> {
    await this.#program.stop('SIGINT');
  }

  /** All of its processes at once. What they shared in memory would stay for good, since nobody starts on that directory again. */
  async kill(): Promise<void> {
    const { pid } = this.#program.child;
    if (pid === undefined) return;
    const children = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid);
    const all = [pid, ...children.map(Number)];
    using _memory = this.#sharedMemory(all);
    for (const each of all) {
      try {
        process.kill(each, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
    await this.#program.ended;
  }

  #sharedMemory(pids: readonly number[]): Disposable {
    const read = (path: string): string => {
      try {
        return readFileSync(path, 'latin1');
      } catch {
        return '';
      }
    };
    const files = new Set(pids.flatMap((pid) => read(`/proc/${pid}/maps`).match(/\/dev\/shm\/PostgreSQL\.\d+/g) ?? []));
    const segment = read(join(this.#data, 'postmaster.pid')).split('\n')[6]?.trim().split(/\s+/)[1];
    return {
      [Symbol.dispose]() {
        for (const path of files) rmSync(path, { force: true });
        if (segment !== undefined) spawnSync('ipcrm', ['-m', segment], { stdio: 'ignore' });
      },
    };
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
