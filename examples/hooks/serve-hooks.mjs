/**
 * Answers the hooks of `holdfast agent`: `POST /hold` before a checkpoint, `POST /go` after it. Plain Node without packages: copy the folder
 * beside your application.
 *
 * Whoever is held is let go after `holdSecondsMax`, whatever became of the agent: a checkpoint that took longer finds that files
 * changed, and does not call itself quiesced.
 */
import { createServer } from 'node:http';

/**
 * @param {object} options
 * @param {string} options.listen a port of 127.0.0.1, or the path of a unix socket
 * @param {() => unknown} options.hold makes the files consistent and keeps them as they are; throws when it cannot
 * @param {() => unknown} options.go lets the application go on; called also when it was not held
 * @param {number} [options.holdSecondsMax]
 */
export async function serveHooks({ listen, hold, go, holdSecondsMax = 30 }) {
  let limit;
  // One after the other: a /go that comes while /hold is under way takes back what that has done.
  let last = Promise.resolve();
  const inTurn = (work) => {
    last = last.then(work, work);
    return last;
  };
  const letGo = async () => {
    clearTimeout(limit);
    await go();
  };
  const routes = {
    'POST /hold': async () => {
      clearTimeout(limit);
      limit = setTimeout(() => inTurn(letGo).catch(fail), holdSecondsMax * 1000);
      try {
        await hold();
      } catch (error) {
        await letGo();
        throw error;
      }
    },
    'POST /go': letGo,
  };
  const fail = (error) => process.stderr.write(`hooks: ${error.message}\n`);
  const server = createServer((request, response) => {
    request.resume();
    const route = routes[`${request.method} ${request.url}`];
    if (route === undefined) {
      response.writeHead(404).end();
      return;
    }
    inTurn(route).then(
      () => response.writeHead(200).end(),
      (error) => {
        fail(error);
        response.writeHead(500).end();
      },
    );
  });
  // What an earlier run has left held.
  await go();
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    if (/^\d+$/.test(listen)) server.listen(Number(listen), '127.0.0.1', resolve);
    else server.listen(listen, resolve);
  });
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => {
      inTurn(letGo)
        .catch(fail)
        .finally(() => process.exit(0));
    });
  }
  process.stdout.write('hooks are answered\n');
}
