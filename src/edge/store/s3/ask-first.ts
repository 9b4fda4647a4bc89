import type { ClientRequest } from 'node:http';
import { Readable } from 'node:stream';

/** Smaller bodies are sent at once. */
const bodyBytesMin = 256 * 1024;
/** A server that says nothing to the question gets the body after so long. */
const answerMsMax = 1000;

/** What is used of a command of the SDK. */
interface Command {
  readonly middlewareStack: { add(middleware: never, options: never): void };
}

type Next = (args: { readonly request: unknown }) => Promise<unknown>;

/**
 * Has a request ask the server whether it wants the body before it sends it (`Expect: 100-continue`). That costs a round trip, and is
 * for requests that were refused before: where they are refused again, nothing is sent for it. And it is heard why: a server
 * that refuses a body while it comes may close the connection, and what it answered is lost. Answers the command.
 */
export function askFirst<Asked extends Command>(command: Asked): Asked {
  const middleware = (next: Next) => (args: { readonly request: unknown }) => {
    const { request } = args as { request: { headers: Record<string, string>; body: unknown } };
    if (request.body instanceof Uint8Array && request.body.length >= bodyBytesMin) {
      // After signing: the header is not part of what is signed.
      request.headers['Expect'] = '100-continue';
      request.body = new AwaitedBody(request.body);
    }
    return next(args);
  };
  const innermost = { step: 'deserialize', priority: 'low', name: 'askFirst' };
  command.middlewareStack.add(middleware as never, innermost as never);
  return command;
}

/**
 * A body that is sent when the server asks for it. The SDK's own way of waiting needs agents that it makes itself, which know
 * neither proxies nor CAs.
 */
class AwaitedBody extends Readable {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    super();
    this.#bytes = bytes;
  }

  override _read(): void {
    this.push(this.#bytes);
    this.push(null);
  }

  override pipe<Target extends NodeJS.WritableStream>(target: Target): Target {
    const request = target as unknown as ClientRequest;
    const send = (): void => {
      stopWaiting();
      super.pipe(target);
    };
    const timer = setTimeout(send, answerMsMax);
    const stopWaiting = (): void => {
      clearTimeout(timer);
      request.off('continue', send).off('response', refused).off('close', stopWaiting);
    };
    const refused: (answer: Readable) => void = (answer) => {
      stopWaiting();
      // The server still waits for a body on this connection: it serves no other request.
      answer.once('close', () => request.destroy());
    };
    request.once('continue', send).once('response', refused).once('close', stopWaiting);
    return target;
  }
}
