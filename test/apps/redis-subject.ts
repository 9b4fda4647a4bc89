/** Redis with an append-only file, rewritten now and then: a counter and a list that grows with it, in transactions. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { Program, programPath, ran } from './program.ts';
import type { Subject } from './subject.ts';

/** A client that sends one command after the other. Answers are told apart no further than the tests need. */
class RedisClient implements Disposable {
  readonly #socket: Socket;
  #answer = '';
  #heard: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      this.#answer += chunk;
      this.#heard?.();
    });
    socket.on('error', () => undefined).on('close', () => this.#heard?.());
  }

  static async connect(path: string): Promise<RedisClient> {
    const socket = connect({ path });
    await once(socket, 'connect');
    return new RedisClient(socket);
  }

  /** The raw answers to the commands, as soon as they hold so many lines. */
  async send(commands: readonly (readonly string[])[], lines: number): Promise<readonly string[]> {
    this.#answer = '';
    this.#socket.write(
      commands
        .map((words) => `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`)
        .join(''),
    );
    while (this.#answer.split('\r\n').length <= lines) {
      if (this.#socket.closed || this.#socket.destroyed) throw new Error('Redis is gone');
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
    if (/^-/m.test(this.#answer)) throw new Error(this.#answer);
    return this.#answer.split('\r\n');
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

interface Server {
  readonly program: Program;
  readonly socket: string;
}

async function serve(directory: string, socket: string): Promise<Server> {
  const program = new Program(programPath('redis-server'), [
    ...['--port', '0', '--unixsocket', socket, '--dir', directory, '--save', '', '--appendonly', 'yes'],
    // Small and often, so that checkpoints meet rewrites.
    ...['--auto-aof-rewrite-min-size', '64kb', '--auto-aof-rewrite-percentage', '50', '--daemonize', 'no'],
  ]);
  await program.printed(/ready to accept connections/i);
  return { program, socket };
}

async function shown({ socket }: Server): Promise<number> {
  using client = await RedisClient.connect(socket);
  const [counter = ''] = (await client.send([['INCRBY', 'counter', '0']], 1)).slice(-2);
  const [length = ''] = (await client.send([['LLEN', 'list']], 1)).slice(-2);
  const count = Number(counter.slice(1));
  expect(Number(length.slice(1)), 'a transaction is whole').toBe(count);
  if (count > 0) {
    const [, last] = await client.send([['LINDEX', 'list', '-1']], 2);
    expect(last?.split(' ')[0]).toBe(String(count));
  }
  return count;
}

export const redis: Subject = {
  name: 'Redis with an append-only file',
  async start({ volume, place, rests }) {
    const server = await serve(volume, join(place, 'redis.sock'));
    let acknowledged = await shown(server);
    let over = false;
    const client = await RedisClient.connect(server.socket);
    const writing = (async () => {
      while (!over) {
        const n = String(acknowledged + 1);
        const commands = [
          ['MULTI'],
          ['INCR', 'counter'],
          ['RPUSH', 'list', `${n} ${randomBytes(100).toString('hex')}`],
          ['EXEC'],
        ];
        try {
          await client.send(commands, 6);
        } catch (error) {
          if (over) return;
          throw error;
        }
        acknowledged++;
        if (acknowledged % 20 === 0) await sleep(rests ? 400 : 1);
      }
    })();
    const end = async (signal: NodeJS.Signals): Promise<void> => {
      over = true;
      await server.program.stop(signal);
      client[Symbol.dispose]();
      await writing;
    };
    return {
      get acknowledged() {
        return acknowledged;
      },
      hooks: { program: 'redis.mjs', args: [server.socket] },
      stop: () => end('SIGTERM'),
      kill: () => end('SIGKILL'),
      [Symbol.asyncDispose]: () => end('SIGKILL'),
    };
  },
  async check(copy) {
    const manifest = join(copy, 'appendonlydir', 'appendonly.aof.manifest');
    if (existsSync(manifest)) {
      expect(await ran(programPath('redis-check-aof'), [manifest])).toMatch(/All AOF files and manifest are valid/);
    }
    const place = `${copy}-run`;
    await mkdir(place);
    const server = await serve(copy, join(place, 's'));
    try {
      return await shown(server);
    } finally {
      await server.program.stop();
    }
  },
};
