/**
 * One HTTP/1.1 answer to a GET, read out of the bytes of a connection however they are cut. It looks at nothing but what frames the body, and
 * refuses what two readers could understand differently.
 */
const headBytesMax = 64 * 1024;
const lineBytesMax = 4096;

/** What came is no HTTP, or breaks its rules. The code is one that Node's own parser gives. */
export class BrokenAnswer extends Error {
  readonly code = 'HPE_INVALID_CONSTANT';

  constructor(why: string) {
    super(`the answer of the server is broken: ${why}`);
    this.name = 'BrokenAnswer';
  }
}

export interface AnswerHead {
  readonly status: number;
  readonly reason: string;
  /** By name in small letters; several of one name are joined by commas. */
  readonly headers: Readonly<Record<string, string>>;
}

type Framing = 'length' | 'chunk' | 'chunk size' | 'chunk end' | 'trailer' | 'close' | 'none';

export class HttpAnswer {
  #head: AnswerHead | undefined;
  #text = '';
  #framing: Framing = 'none';
  /** Bytes of the body, or of the chunk, that are still to come. */
  #left = 0;
  #done = false;
  #keepAlive = true;

  /** Undefined until it is there. */
  get head(): AnswerHead | undefined {
    return this.#head;
  }

  /** The body has ended too. */
  get done(): boolean {
    return this.#done;
  }

  /** Another answer may follow on this connection. */
  get keepAlive(): boolean {
    return this.#keepAlive;
  }

  /**
   * Takes bytes of the head, or, once that is there, of the body, whose content it gives to `content` as views. Returns how many it took: those
   * behind the end of the head, or of the body, are left. Throws BrokenAnswer.
   */
  take(bytes: Uint8Array, content: (piece: Uint8Array) => void): number {
    if (this.#head === undefined) return this.#takeHead(bytes);
    let at = 0;
    while (at < bytes.length && !this.#done) {
      if (this.#framing === 'length' || this.#framing === 'chunk' || this.#framing === 'close') {
        const count = Math.min(this.#left, bytes.length - at);
        content(bytes.subarray(at, at + count));
        at += count;
        this.#left -= count;
        if (this.#left > 0) continue;
        if (this.#framing === 'length') this.#done = true;
        else this.#framing = 'chunk end';
      } else {
        at = this.#takeLine(bytes, at);
      }
    }
    return at;
  }

  /** The connection was closed. True when that is how the body ends. */
  close(): boolean {
    if (this.#head !== undefined && this.#framing === 'close') this.#done = true;
    return this.#done;
  }

  #takeHead(bytes: Uint8Array): number {
    const before = this.#text.length;
    // Every byte is one character of latin1, so positions in the text are positions in the bytes.
    this.#text += latin1(bytes.subarray(0, headBytesMax));
    const end = this.#text.indexOf('\r\n\r\n', Math.max(0, before - 3));
    if (end < 0) {
      if (this.#text.length >= headBytesMax) throw new BrokenAnswer('its head does not end');
      return bytes.length;
    }
    const head = readHead(this.#text.slice(0, end));
    this.#text = '';
    const taken = end + 4 - before;
    // Something is said before the answer itself, such as 103 Early Hints.
    if (head.status < 200) return taken + this.#takeHead(bytes.subarray(taken));
    this.#head = head;
    this.#frame(head);
    return taken;
  }

  #frame({ status, headers }: AnswerHead): void {
    const { connection = '', 'transfer-encoding': encoding, 'content-length': length } = headers;
    this.#keepAlive = !/\bclose\b/i.test(connection);
    if (status === 204 || status === 304) {
      this.#done = true;
    } else if (encoding !== undefined) {
      if (encoding.toLowerCase() !== 'chunked' || length !== undefined)
        throw new BrokenAnswer('the end of its body is not clear');
      this.#framing = 'chunk size';
    } else if (length !== undefined) {
      if (!/^\d{1,15}$/.test(length)) throw new BrokenAnswer('its length is no number');
      this.#framing = 'length';
      this.#left = Number(length);
      this.#done = this.#left === 0;
    } else {
      this.#framing = 'close';
      this.#left = Number.POSITIVE_INFINITY;
      this.#keepAlive = false;
    }
  }

  /** Takes one line between chunks, or a part of it. */
  #takeLine(bytes: Uint8Array, at: number): number {
    const newline = bytes.indexOf(0x0a, at);
    const end = newline < 0 ? bytes.length : newline + 1;
    this.#text += latin1(bytes.subarray(at, Math.min(end, at + lineBytesMax)));
    if (this.#text.length >= lineBytesMax) throw new BrokenAnswer('a line between its chunks does not end');
    if (newline < 0) return end;
    if (!this.#text.endsWith('\r\n')) throw new BrokenAnswer('a line between its chunks does not end as it should');
    const line = this.#text.slice(0, -2);
    this.#text = '';
    if (this.#framing === 'chunk end') {
      if (line !== '') throw new BrokenAnswer('a chunk is longer than it says');
      this.#framing = 'chunk size';
    } else if (this.#framing === 'trailer') {
      this.#done = line === '';
    } else {
      const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(line)?.[1];
      if (size === undefined) throw new BrokenAnswer('the size of a chunk is no number');
      this.#left = Number.parseInt(size, 16);
      this.#framing = this.#left === 0 ? 'trailer' : 'chunk';
    }
    return end;
  }
}

function readHead(text: string): AnswerHead {
  const [first = '', ...lines] = text.split('\r\n');
  const match = /^HTTP\/1\.1 (\d{3})(?: (.*))?$/.exec(first);
  if (match === null) throw new BrokenAnswer('it does not begin as one of HTTP/1.1');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    if (colon <= 0 || !/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name))
      throw new BrokenAnswer('a line of its head is no header');
    const value = line.slice(colon + 1).trim();
    const before = headers[name];
    if (before !== undefined && name === 'content-length') throw new BrokenAnswer('it has two lengths');
    headers[name] = before === undefined ? value : `${before}, ${value}`;
  }
  return { status: Number(match[1]), reason: match[2] ?? '', headers };
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}
