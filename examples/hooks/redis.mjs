/**
 * Hooks for Redis with an append-only file:
 *
 *     node redis.mjs /run/redis/redis.sock /run/hooks/hooks.sock
 *
 * `CLIENT PAUSE … WRITE` keeps clients that write waiting, readers go on; Redis itself ends the pause when this process does not. Then it waits until
 * nothing is left in the buffer of the file and no rewrite is under way. For a server with a password add an `AUTH` before.
 */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { serveHooks } from './serve-hooks.mjs';

const [redis = '', listen = ''] = process.argv.slice(2);
const holdSecondsMax = 30;
/** Rewrites of a large file take longer: the checkpoint is then made without the hook. */
const settleMsMax = 8000;

await serveHooks({
  listen,
  holdSecondsMax,
  async hold() {
    await ask('CLIENT', 'PAUSE', String(holdSecondsMax * 1000), 'WRITE');
    for (const giveUp = performance.now() + settleMsMax; ; await sleep(5)) {
      const info = await ask('INFO', 'persistence');
      const isZero = (name) => new RegExp(`^${name}:0\\r$`, 'm').test(info) || !info.includes(`${name}:`);
      const busy = ['aof_rewrite_in_progress', 'aof_rewrite_scheduled', 'rdb_bgsave_in_progress', 'aof_buffer_length'];
      if (busy.every(isZero)) return;
      if (performance.now() > giveUp) throw new Error('Redis is still writing its files');
    }
  },
  go: () =>
    ask('CLIENT', 'UNPAUSE').catch((error) => {
      // A server that does not run holds nobody.
      if (!['ENOENT', 'ECONNREFUSED'].includes(error.code)) throw error;
    }),
});

/** One command over a connection of its own: its answer as text. */
async function ask(...words) {
  const socket = connect(/^\d+$/.test(redis) ? { host: '127.0.0.1', port: Number(redis) } : { path: redis });
  try {
    socket.write(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`);
    let answer = '';
    for await (const chunk of socket.setEncoding('utf8')) {
      answer += chunk;
      const end = answer.indexOf('\r\n');
      if (end < 0) continue;
      if (answer.startsWith('-')) throw new Error(answer.slice(1, end));
      // A text says how long it is; anything else is one line.
      if (!answer.startsWith('$')) return answer.slice(1, end);
      const bytes = Buffer.from(answer.slice(end + 2));
      const length = Number(answer.slice(1, end));
      if (bytes.length >= length + 2) return bytes.toString('utf8', 0, length);
    }
    throw new Error('Redis closed the connection');
  } finally {
    socket.destroy();
  }
}
