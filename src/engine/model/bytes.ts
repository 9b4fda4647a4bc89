/**
 * Bytes: comparison, hexadecimal text, and a bounded reader and writer for the binary formats.
 *
 * Integers are minimal LEB128 varints of at most 53 bits; a longer or padded form is refused, so that each value has one
 * encoding. A reader never allocates by a length it has not checked against what is left.
 */
import { HoldfastError, invariant } from './errors.ts';

export const emptyBytes: Uint8Array = new Uint8Array(0);

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder('utf-8', { fatal: true });

export function utf8Bytes(text: string): Uint8Array {
  return utf8Encoder.encode(text);
}

/** Order of unsigned bytes; a prefix comes before its extensions. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = a.length < b.length ? a.length : b.length;
  for (let i = 0; i < shared; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Length of the longest common prefix, in bytes. */
export function commonPrefixBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = a.length < b.length ? a.length : b.length;
  let i = 0;
  while (i < shared && a[i] === b[i]) i++;
  return i;
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  let total = 0;
  for (const part of parts) total += part.length;
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const hexDigits: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += hexDigits[byte];
  return text;
}

/** Undefined when `text` is not an even number of lower-case hexadecimal digits. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return undefined;
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Grows by doubling; `take` gives an exact copy and `reset` reuses the memory. */
export class ByteWriter {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  reset(): void {
    this.#length = 0;
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  u32(value: number): void {
    this.#reserve(4);
    const at = this.#length;
    this.#bytes[at] = value & 0xff;
    this.#bytes[at + 1] = (value >>> 8) & 0xff;
    this.#bytes[at + 2] = (value >>> 16) & 0xff;
    this.#bytes[at + 3] = value >>> 24;
    this.#length = at + 4;
  }

  /** Unsigned minimal LEB128 of a safe integer. */
  varint(value: number): void {
    invariant(Number.isSafeInteger(value) && value >= 0, 'varint of a safe non-negative integer');
    this.#reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[this.#length++] = (rest % 0x80) | 0x80;
      rest = rest < 0x80000000 ? rest >>> 7 : Math.floor(rest / 0x80);
    }
    this.#bytes[this.#length++] = rest;
  }

  /** Signed safe integer below 2^52 in size, zigzag then varint. */
  signed(value: number): void {
    this.varint(value >= 0 ? value * 2 : -value * 2 - 1);
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Length as a varint, then the bytes. */
  blob(bytes: Uint8Array): void {
    this.varint(bytes.length);
    this.raw(bytes);
  }

  text(value: string): void {
    this.blob(utf8Bytes(value));
  }

  /** A view of what was written, valid until the next write or reset. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + more));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}

/** Every fault of the bytes read is one error: E_DAMAGED naming `what`. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, what: string, start = 0, end: number = bytes.length) {
    this.#bytes = bytes;
    this.#what = what;
    this.#at = start;
    this.#end = end;
  }

  get position(): number {
    return this.#at;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  fail(why: string): never {
    throw new HoldfastError('E_DAMAGED', `${this.#what}: ${why} at byte ${this.#at}`);
  }

  u8(): number {
    if (this.#at >= this.#end) this.fail('ends too early');
    return this.#bytes[this.#at++] as number;
  }

  u32(): number {
    if (this.left < 4) this.fail('ends too early');
    const b = this.#bytes;
    const at = this.#at;
    this.#at += 4;
    return (
      ((b[at] as number) |
        ((b[at + 1] as number) << 8) |
        ((b[at + 2] as number) << 16) |
        ((b[at + 3] as number) << 24)) >>>
      0
    );
  }

  /** At most `max`, which defaults to the largest safe integer. */
  varint(max: number = Number.MAX_SAFE_INTEGER): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (byte === 0 && i > 0) this.fail('padded integer');
        if (value > max) this.fail(`integer above ${max}`);
        return value;
      }
      scale *= 0x80;
    }
    return this.fail('integer too long');
  }

  signed(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** A view into the source, not a copy. */
  raw(length: number): Uint8Array {
    if (length > this.left) this.fail(`wants ${length} bytes, ${this.left} are left`);
    const part = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return part;
  }

  /** Passes over `length` bytes and returns where they begin: `raw` without the view. */
  skip(length: number): number {
    if (length > this.left) this.fail(`wants ${length} bytes, ${this.left} are left`);
    const start = this.#at;
    this.#at += length;
    return start;
  }

  blob(max: number = Number.MAX_SAFE_INTEGER): Uint8Array {
    return this.raw(this.varint(Math.min(max, this.left)));
  }

  text(max = 4096): string {
    const bytes = this.blob(max);
    try {
      return utf8Decoder.decode(bytes);
    } catch {
      return this.fail('text is not UTF-8');
    }
  }

  end(): void {
    if (this.#at !== this.#end) this.fail(`${this.left} bytes too many`);
  }
}
