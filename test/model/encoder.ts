/** Writes the fields of a state as bytes. A model writes fixed fields, or a count before items whose number varies. */
export class Encoder {
  readonly bytes: Uint8Array = new Uint8Array(4096);
  length = 0;

  reset(): void {
    this.length = 0;
  }

  u8(value: number): void {
    if (value !== (value & 0xff)) throw new RangeError(`${value} does not fit 8 bits`);
    this.bytes[this.length++] = value;
  }

  u16(value: number): void {
    if (value !== (value & 0xffff)) throw new RangeError(`${value} does not fit 16 bits`);
    this.bytes[this.length++] = value;
    this.bytes[this.length++] = value >>> 8;
  }

  u32(value: number): void {
    if (value !== value >>> 0) throw new RangeError(`${value} does not fit 32 bits`);
    this.bytes[this.length++] = value;
    this.bytes[this.length++] = value >>> 8;
    this.bytes[this.length++] = value >>> 16;
    this.bytes[this.length++] = value >>> 24;
  }

  /** A signed 32-bit hash of the bytes written so far: FNV-1a with the final mixing of MurmurHash3. */
  hash(): number {
    if (this.length > this.bytes.length) throw new RangeError(`a state of ${this.length} bytes`);
    let hash = 0x811c9dc5;
    for (let i = 0; i < this.length; i++) hash = Math.imul(hash ^ (this.bytes[i] as number), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return hash ^ (hash >>> 16);
  }
}
