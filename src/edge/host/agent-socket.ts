/** The socket of an agent from both ends: the place for it, and a question to whoever listens there. */
import { mkdirSync, rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { HoldfastError } from '../../engine/model/errors.ts';

/** Of the kernel's address, without its end. */
const socketPathBytesMax = 107;
const answerBytesMax: number = 4 * 1024 * 1024;

export interface Answer {
  readonly code: number;
  readonly body: string;
}

/**
 * Makes the place for a socket free, and whatever this process makes from now on private to its user. E_STATE_DIR where somebody
 * listens already, the path is longer than the kernel takes, or its directory cannot be made.
 */
export async function prepareSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > socketPathBytesMax) {
    throw new HoldfastError(
      'E_STATE_DIR',
      `the path of the socket is longer than ${socketPathBytesMax} bytes: ${path}`,
      {
        remedy: 'Give a state directory with a shorter path: --state-dir /run/holdfast.',
      },
    );
  }
  if (await isListening(path)) {
    throw new HoldfastError('E_STATE_DIR', `another agent listens on ${path}`, {
      remedy: 'Give each agent a state directory of its own, or end the other one.',
    });
  }
  process.umask(0o077);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    rmSync(path, { force: true });
  } catch (cause) {
    throw new HoldfastError('E_STATE_DIR', `cannot make room for ${path}`, { cause });
  }
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const end = (listening: boolean) => (): void => {
      socket.destroy();
      resolve(listening);
    };
    socket.once('connect', end(true)).once('error', end(false));
  });
}

/**
 * Asks once, with as little code as it takes: a preStop hook holds up the end of its pod until this process has started, asked and
 * ended. E_STATE_DIR where nobody listens or may be asked, E_ABORTED when no answer comes in time.
 */
export function askAgent(
  path: string,
  { method, path: route }: { readonly method: 'GET' | 'POST'; readonly path: string },
  { waitMs, body = '' }: { readonly waitMs: number; readonly body?: string },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket: Socket = createConnection(path);
    const chunks: Buffer[] = [];
    let bytes = 0;
    const fail = (error: HoldfastError): void => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(waitMs, () =>
      fail(new HoldfastError('E_ABORTED', `the agent at ${path} did not answer within ${waitMs} ms`)),
    );
    socket.once('error', (cause) =>
      fail(
        new HoldfastError('E_STATE_DIR', `no agent answers at ${path}`, {
          cause,
          remedy: 'Check that the agent runs, with the same --state-dir and as the same user.',
        }),
      ),
    );
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > answerBytesMax) fail(new HoldfastError('E_LIMIT', 'the answer of the agent is too long'));
      else chunks.push(chunk);
    });
    socket.once('end', () => {
      const answer = parseAnswer(Buffer.concat(chunks).toString());
      if (answer === undefined) fail(new HoldfastError('E_STATE_DIR', `what answers at ${path} is no agent`));
      else resolve(answer);
    });
    const type = body === '' ? '' : 'Content-Type: application/json\r\n';
    socket.write(
      `${method} ${route} HTTP/1.1\r\nHost: holdfast\r\nConnection: close\r\n${type}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  });
}

/** HTTP/1.1 with the connection closed at its end; the agent's answers are never in chunks. */
function parseAnswer(text: string): Answer | undefined {
  const code = /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1];
  const at = text.indexOf('\r\n\r\n');
  return code === undefined || at < 0 ? undefined : { code: Number(code), body: text.slice(at + 4) };
}
