/** Chance comes in through the front door: cryptographically strong in production, seeded in the simulator. */
export interface RandomSource {
  bytes(length: number): Uint8Array;
}
