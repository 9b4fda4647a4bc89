/** Where the repository key lives: a file, a Secret, a KMS. It only wraps and unwraps the secrets of key domains. */
export interface KeyRing {
  /** Recognises the key without revealing it; stored beside what was wrapped. */
  readonly keyId: string;
  /** Authenticated encryption of a small secret; `context` is bound as additional data. */
  wrap(secret: Uint8Array, context: string): Promise<Uint8Array>;
  /** E_KEY_WRONG when another key wrapped it, E_DAMAGED when it was changed. */
  unwrap(wrapped: Uint8Array, context: string): Promise<Uint8Array>;
  /** Ed25519 signature by the key derived from the repository key, over `message`. */
  sign(message: Uint8Array): Promise<Uint8Array>;
  /** Raw 32-byte public key of that signature. */
  readonly publicKey: Uint8Array;
}
