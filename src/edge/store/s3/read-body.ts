import type { Readable } from 'node:stream';
import { HttpBody } from './http-connection.ts';
import { TruncatedBody } from './truncated-body.ts';

/**
 * Reads a body into `target` from `at` on, and says after each piece how far it has come, so that another attempt can go on
 * from there. Throws TruncatedBody for a body that ends early, an Error for one that does not end, and what the network
 * throws.
 */
export async function readBody(
  body: Readable,
  target: Uint8Array,
  at: number,
  reached: (at: number) => void,
): Promise<void> {
  if (body instanceof HttpBody) {
    await body.readInto(target, at, reached);
    return;
  }
  let end = at;
  // The loop destroys the body however it ends: one that is not read to its end would keep its connection.
  for await (const piece of body as AsyncIterable<Uint8Array>) {
    if (end + piece.length > target.length) {
      throw new TruncatedBody(target.length - at, end + piece.length - at);
    }
    target.set(piece, end);
    end += piece.length;
    reached(end);
  }
  if (end !== target.length) throw new TruncatedBody(target.length - at, end - at);
}
