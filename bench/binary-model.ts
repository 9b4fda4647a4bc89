import { createCipheriv } from 'node:crypto';
import type { Random } from './random.ts';
import { TextBuffer, type TextModel } from './text-model.ts';

/** Fills with bytes that no compressor can shrink: the AES-256-CTR key stream under a key drawn from `random`. */
export function randomBytes(random: Random, size: number): Uint8Array {
  const key = Buffer.alloc(32);
  for (let index = 0; index < 8; index += 1) key.writeUInt32LE(random.word(), index * 4);
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

/**
 * Machine code as a compressor sees it: ELF header, a text section of common instructions with scattered operands, symbol
 * names, tables of addresses and runs of zeros.
 */
export class BinaryModel {
  readonly #text: TextModel;
  readonly #instructions: Uint8Array[];
  readonly #out = new TextBuffer();

  constructor(text: TextModel, random: Random) {
    this.#text = text;
    this.#instructions = Array.from({ length: 260 }, () =>
      Uint8Array.from({ length: 2 + random.below(5) }, () => (random.chance(0.3) ? 0x48 : random.word() & 0xff)),
    );
  }

  /** Writes `size` bytes. @returns a view that is valid until the next call */
  executable(random: Random, size: number): Uint8Array {
    const out = this.#out;
    out.clear();
    out.raw(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 62, 0, 1, 0, 0, 0));
    this.#code(random, Math.floor(size * 0.72));
    this.#names(random, Math.floor(size * 0.82));
    this.#addresses(random, Math.floor(size * 0.93));
    out.reserve(size - out.length);
    out.bytes.fill(0, out.length, size);
    return out.bytes.subarray(0, size);
  }

  #code(random: Random, end: number): void {
    const out = this.#out;
    while (out.length < end) {
      const uniform = random.word() / 2 ** 32;
      const instruction = this.#instructions[Math.floor(uniform ** 5 * this.#instructions.length)];
      if (instruction !== undefined) out.raw(instruction);
      const operand = random.word();
      if (operand < 0x5000_0000) out.byte(operand & 0x78);
      else if (operand < 0x7800_0000) {
        // A relative call: two bytes that vary, two that hardly do.
        out.byte(operand & 0xff);
        out.byte((operand >>> 8) & 0xff);
        out.byte(random.chance(0.5) ? 0 : 0xff);
        out.byte(random.chance(0.5) ? 0 : 0xff);
      }
    }
  }

  #names(random: Random, end: number): void {
    const out = this.#out;
    while (out.length < end) {
      out.ascii('_ZN');
      out.decimal(random.below(30));
      out.word(this.#text.identifiers, this.#text.identifiers.draw(random));
      out.word(this.#text.types, this.#text.types.draw(random));
      out.byte(0);
    }
  }

  #addresses(random: Random, end: number): void {
    const out = this.#out;
    let address = 0x40_0000;
    while (out.length < end) {
      address += 8 * random.below(64);
      for (let shift = 0; shift < 32; shift += 8) out.byte((address >>> shift) & 0xff);
      out.decimal(0, 4);
      out.byte(random.below(6));
      out.byte(0);
      out.byte(0);
      out.byte(0);
    }
  }
}
