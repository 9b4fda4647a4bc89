/** zstd frames, one per call, synchronous, reusing its contexts. One suite runs against every implementation. */
export interface Compressor {
  /** `libzstd`, `zlib` or `zstd-codec`; stands in the JSON output. */
  readonly name: string;
  /** Output bytes that always suffice for `inputBytes`. */
  boundBytes(inputBytes: number): number;
  /** Compresses `input` into `output` from `outputStart`; returns the bytes written. Level 1 to 19. */
  compress(input: Uint8Array, output: Uint8Array, outputStart: number, level: number): number;
  /**
   * Decompresses exactly one frame whose plaintext has exactly `plainBytes` bytes, into `output` from 0. Anything else
   * (short, long, trailing or damaged data) throws E_DAMAGED; never writes past `plainBytes`.
   */
  decompress(input: Uint8Array, output: Uint8Array, plainBytes: number): void;
}
