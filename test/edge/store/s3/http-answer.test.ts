import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BrokenAnswer, HttpAnswer } from '../../../../src/edge/store/s3/http-answer.ts';

/** Reads an answer that comes in these pieces, as a connection does; `left` is what stands behind its end. */
function read(pieces: readonly Uint8Array[]) {
  const answer = new HttpAnswer();
  const content: number[] = [];
  let left = 0;
  for (const piece of pieces) {
    let at = 0;
    while (at < piece.length && !answer.done) at += answer.take(piece.subarray(at), (bytes) => content.push(...bytes));
    left += piece.length - at;
  }
  return { answer, content: Buffer.from(content).toString('latin1'), left };
}

const bytesOf = (text: string): Uint8Array => Buffer.from(text, 'latin1');

const ended = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "a"\r\n\r\nhello';
const chunked =
  'HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n';

describe('an answer', () => {
  test('is read to its end, by its length or in chunks, however the bytes are cut', () => {
    for (const text of [ended, chunked, `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${ended}`]) {
      const bytes = bytesOf(`${text}HTTP`);
      fc.assert(
        fc.property(fc.array(fc.nat(bytes.length), { maxLength: 12 }), (cuts) => {
          const places = [0, ...cuts.sort((a, b) => a - b), bytes.length];
          const pieces = places.slice(1).map((to, i) => bytes.subarray(places[i], to));
          const { answer, content, left } = read(pieces);
          expect([answer.done, content, left, answer.keepAlive]).toEqual([true, 'hello', 4, true]);
        }),
      );
    }
  });

  test('gives its status and its headers by their small names', () => {
    const { answer } = read([bytesOf('HTTP/1.1 206 \r\nA-b:  c \r\nX: 1\r\nx: 2\r\nContent-Length: 0\r\n\r\n')]);
    expect(answer.head).toEqual({ status: 206, reason: '', headers: { 'a-b': 'c', x: '1, 2', 'content-length': '0' } });
    expect(answer.done).toBe(true);
  });

  test('without length goes on until the connection ends, which may then not be used again', () => {
    const { answer, content } = read([bytesOf('HTTP/1.1 200 OK\r\n\r\nhel'), bytesOf('lo')]);
    expect([answer.done, answer.keepAlive, content]).toEqual([false, false, 'hello']);
    expect(answer.close()).toBe(true);
  });

  test('that ends early is not whole', () => {
    for (const text of [ended.slice(0, -1), chunked.slice(0, -2), ended.slice(0, 20)]) {
      expect(read([bytesOf(text)]).answer.close()).toBe(false);
    }
  });

  test('says when the connection is to be closed, and has no body with 204', () => {
    const { answer } = read([bytesOf('HTTP/1.1 204 No Content\r\nConnection: Close\r\nContent-Length: 5\r\n\r\n')]);
    expect([answer.done, answer.keepAlive]).toEqual([true, false]);
  });

  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['an older version', 'HTTP/1.0 200 OK\r\n\r\n'],
    ['a line that is no header', 'HTTP/1.1 200 OK\r\nno header\r\n\r\n'],
    ['a name with a space', 'HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n'],
    ['a length that is no number', 'HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n'],
    ['length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['another encoding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n'],
    ['a size that is no number', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n'],
    ['a chunk that is too long', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n'],
    ['a head without end', `HTTP/1.1 200 OK\r\nA: ${'a'.repeat(70_000)}`],
    ['a line without end', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;${'a'.repeat(5000)}`],
  ])('is refused for %s', (_, text) => {
    expect(() => read([bytesOf(text)])).toThrow(BrokenAnswer);
  });

  test('of any bytes is read or refused, and takes no more than it was given', () => {
    fc.assert(
      fc.property(fc.constantFrom(ended, chunked), fc.nat(200), fc.nat(255), (text, at, byte) => {
        const bytes = bytesOf(text).slice();
        bytes[at % bytes.length] = byte;
        try {
          expect(read([bytes]).content.length).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(BrokenAnswer);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
