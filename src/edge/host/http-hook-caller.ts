/** Hooks by Node's own HTTP client: `http://127.0.0.1:8080/path`, or `unix:/run/app.sock:/path`. */
import { request } from 'node:http';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { HookCaller } from '../../engine/ports/hook-caller.ts';

export const httpHookCaller: HookCaller = {
  call: (address, body, waitMs, { signal } = {}) =>
    new Promise((resolve, reject) => {
      const unix = /^unix:([^:]+):(\/.*)$/.exec(address);
      const where = unix === null ? {} : { socketPath: unix[1] as string, path: unix[2] as string };
      const timeout = AbortSignal.timeout(waitMs);
      const options = {
        ...where,
        method: 'POST',
        agent: false,
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      } as const;
      const call = unix === null ? request(address, options) : request(options);
      call.once('response', (response) => {
        // Nothing of it is of interest, and it may be long.
        response.destroy();
        resolve(response.statusCode ?? 0);
      });
      call.once('error', (cause) =>
        reject(
          cause.name === 'TimeoutError' || cause.name === 'AbortError'
            ? new HoldfastError('E_ABORTED', `the hook ${address} did not answer within ${waitMs} ms`, { cause })
            : new HoldfastError('E_USAGE', `the hook ${address} cannot be called: ${cause.message}`, {
                cause,
                remedy: 'Check that the application listens there, on the loopback interface of the pod.',
              }),
        ),
      );
      call.end(body);
    }),
};
