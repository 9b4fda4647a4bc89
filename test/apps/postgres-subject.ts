/** PostgreSQL under pgbench, whose accounts, tellers, branches and history must have one sum. */
import { chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { Postgres, postgresUser } from './postgres-server.ts';
import { Program, programPath, ran } from './program.ts';
import type { Subject } from './subject.ts';

const dataOf = (volume: string): string => join(volume, 'pgdata');

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
    await ran(programPath('pg_checksums'), ['--check', '-D', data], { ...postgresUser, cwd: '/' });
    return count;
  },
};
