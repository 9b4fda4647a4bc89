/**
 * How the parts of one pack are encrypted and authenticated, alike for segments and footer.
 *
 * Invariants: a pack has one key, which no other pack has (salt, name and first plaintext go into it); below that key each
 * number is sealed once, since it is the nonce; everything that says what the bytes are and where they belong is additional
 * data, so that no part can take another's place, in this pack or another. docs/format/packs.md.
 */
import { createCipheriv, createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto';
import { ByteWriter, concatBytes, utf8Bytes } from '../model/bytes.ts';
import { invariant } from '../model/errors.ts';
import { type DataKey, deriveKey, hmac256 } from './keys.ts';

export const saltBytes = 32;
export const firstDigestBytes = 16;
export const tagBytes = 16;

/**
 * A 32-byte salt from randomness and everything at hand that a second copy of this process would not share: boot id,
 * holder, time, counter. Chance that repeats (a forked process, a restored snapshot of a machine) then repeats no salt as long
 * as one of them differs; docs/decisions/0020-packs-and-keys.md.
 */
export function mixSalt(random: Uint8Array, context: readonly (string | number)[]): Uint8Array {
  invariant(random.length >= saltBytes, 'a salt is made from 32 random bytes or more');
  const writer = new ByteWriter();
  writer.text('holdfast/1/salt');
  writer.blob(random);
  for (const part of context) writer.text(String(part));
  return new Uint8Array(createHmac('sha256', random).update(writer.view()).digest());
}

export const partKind = { data: 0, meta: 1, padding: 2, footer: 3 } as const;
export type PartKind = (typeof partKind)[keyof typeof partKind];

/** raw: the plaintext itself. zstd: one frame. */
export const storeMethod = { raw: 0, zstd: 1 } as const;
export type StoreMethod = (typeof storeMethod)[keyof typeof storeMethod];

/** What the additional data says of one part, besides the pack it belongs to. */
export interface PartLabel {
  /** Number of the segment; of the footer, 2^32 - 1. */
  readonly number: number;
  readonly kind: PartKind;
  readonly method: StoreMethod;
  /** Bytes before compression; of the footer, the bytes of the whole pack. */
  readonly plainBytes: number;
}

export class PackSeal {
  readonly #key: Uint8Array;
  readonly #encrypted: boolean;
  readonly #context: Uint8Array;
  readonly #label: Uint8Array = new Uint8Array(14);
  readonly #labelView: DataView = new DataView(this.#label.buffer);
  readonly #nonce: Uint8Array = new Uint8Array(12);

  /** `context` says whose the pack is; it becomes part of all additional data. */
  constructor(context: Uint8Array, name: string, dataKey: DataKey, salt: Uint8Array, firstDigest: Uint8Array) {
    this.#encrypted = dataKey.key !== undefined;
    this.#key = deriveKey(
      dataKey.key ?? dataKey.plainTagKey,
      concatBytes([salt, firstDigest]),
      utf8Bytes(`holdfast/1/${this.#encrypted ? 'pack' : 'plain-pack'}/${name}`),
      32,
    );
    this.#context = context;
  }

  /** Writes ciphertext and tag of `payload` to `into` at 0, which has 16 bytes more room; they may share memory. */
  seal(label: PartLabel, payload: Uint8Array, into: Uint8Array): number {
    const aad = this.#additionalData(label);
    if (!this.#encrypted) {
      into.set(payload, 0);
      into.set(this.#plainTag(aad, payload), payload.length);
      return payload.length + tagBytes;
    }
    const cipher = createCipheriv('aes-256-gcm', this.#key, this.#nonce, { authTagLength: tagBytes });
    cipher.setAAD(aad);
    const sealed = cipher.update(payload);
    invariant(sealed.length === payload.length && cipher.final().length === 0, 'GCM keeps the length');
    into.set(sealed, 0);
    into.set(cipher.getAuthTag(), payload.length);
    release(sealed);
    return payload.length + tagBytes;
  }

  /**
   * Hands the authentic payload to `use`, for the time of the call, or returns false when the bytes are not what was sealed
   * under that label.
   */
  open(label: PartLabel, sealed: Uint8Array, use: (payload: Uint8Array) => void): boolean {
    if (sealed.length < tagBytes) return false;
    const aad = this.#additionalData(label);
    const body = sealed.subarray(0, sealed.length - tagBytes);
    const tag = sealed.subarray(sealed.length - tagBytes);
    if (!this.#encrypted) {
      if (!timingSafeEqual(this.#plainTag(aad, body), tag)) return false;
      use(body);
      return true;
    }
    const decipher = createDecipheriv('aes-256-gcm', this.#key, this.#nonce, { authTagLength: tagBytes });
    decipher.setAAD(aad);
    decipher.setAuthTag(tag);
    const payload = decipher.update(body);
    try {
      try {
        decipher.final();
      } catch {
        return false;
      }
      use(payload);
    } finally {
      release(payload);
    }
    return true;
  }

  /** Also sets the nonce. */
  #additionalData(label: PartLabel): Uint8Array {
    const view = this.#labelView;
    view.setUint32(0, label.number, true);
    view.setUint8(4, label.kind);
    view.setUint8(5, label.method);
    view.setBigUint64(6, BigInt(label.plainBytes), true);
    new DataView(this.#nonce.buffer).setUint32(8, label.number, false);
    return concatBytes([this.#context, this.#label]);
  }

  #plainTag(aad: Uint8Array, payload: Uint8Array): Uint8Array {
    const length = new ByteWriter(8);
    length.u32(aad.length);
    const mac = createHmac('sha256', this.#key).update(length.view()).update(aad).update(payload);
    return mac.digest().subarray(0, tagBytes);
  }
}

/**
 * Digest of the first plaintext that is sealed, 16 bytes. It stands in clear in the trailer, so it is keyed and salted: it
 * tells nothing, not even that two packs begin alike.
 */
export function firstPlaintextDigest(dataKey: DataKey, name: string, salt: Uint8Array, plain: Uint8Array): Uint8Array {
  const key = deriveKey(dataKey.key ?? dataKey.plainTagKey, salt, utf8Bytes(`holdfast/1/pack-first/${name}`), 32);
  return hmac256(key, plain, 0, plain.length).subarray(0, firstDigestBytes);
}

/**
 * Gives the memory of a cipher's result back at once (measured: 300 against 176 MB resident for a capture of 2 GB, where it
 * waited for the garbage collector). Small results may lie in the shared pool of Buffer.
 */
function release(result: Uint8Array): void {
  if (result.byteOffset === 0 && result.buffer.byteLength === result.length && result.length >= 4096) {
    (result.buffer as ArrayBuffer).transfer(0);
  }
}
