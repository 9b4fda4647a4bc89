/**
 * A receipt of a restore as an object of the store: signed, and its text encrypted, for it names volumes and pods. docs/format.md,
 * "Receipts". What the text says is the business of those who write and read it.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { ByteReader, ByteWriter, concatBytes, fromHex, toHex, utf8Bytes } from '../model/bytes.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import type { LineageName } from '../model/ids.ts';
import { envelopeOf, parseEnvelope, refuseNewer } from './envelope.ts';
import { type DataKey, deriveKey, signMessage, verifySignature } from './keys.ts';
import { paddedBytes } from './padding.ts';
import { objectType } from './versions.ts';

/** As stored. */
export const storedReceiptBytesMax: number = 128 * 1024;
/** Bytes of UTF-8. */
export const receiptTextMax: number = 64 * 1024;

const repositoryIdBytes = 16;
const receiptIdBytes = 32;
const gcmTagBytes = 16;
/** A key is used for one message only, so the nonce need not vary. */
const nonce = new Uint8Array(12);

export interface ReceiptAddress {
  readonly repository: string;
  readonly domain: string;
  readonly lineage: LineageName;
}

/** `id`: 32 random bytes, new for each. E_LIMIT when the text is longer than readers accept. */
export function encodeStoredReceipt(
  address: ReceiptAddress,
  text: string,
  id: Uint8Array,
  keys: { readonly dataKey: DataKey; readonly signingSeed: Uint8Array },
): Uint8Array {
  const plain = utf8Bytes(text);
  if (plain.length > receiptTextMax) {
    throw new HoldfastError('E_LIMIT', `a receipt of ${plain.length} bytes, more than a reader accepts`);
  }
  const { generation, key } = keys.dataKey;
  const head = headOf(address, generation, id);
  const w = new ByteWriter(plain.length + 512);
  w.raw(head);
  w.blob(key === undefined ? plain : seal(padded(plain), key, id, head));
  const sealed = envelopeOf(objectType.receipt, w.view());
  return concatBytes([sealed, signMessage(keys.signingSeed, sealed)]);
}

/** E_DAMAGED for anything but a receipt that this domain signed for this lineage; E_KEY_MISSING, E_FORMAT_NEWER. */
export function openStoredReceipt(
  bytes: Uint8Array,
  address: ReceiptAddress & { readonly publicKey: Uint8Array; readonly dataKeys: readonly DataKey[] },
): string {
  const what = `a receipt in ${address.lineage}`;
  const envelope = parseEnvelope(bytes, objectType.receipt, what);
  const r = new ByteReader(envelope.payload, what);
  if (!verifySignature(address.publicKey, envelope.sealed, envelope.seal)) r.fail('was not signed by this domain');
  refuseNewer(envelope, objectType.receipt, what);
  const here = toHex(r.raw(repositoryIdBytes)) === address.repository && r.text(512) === address.domain;
  if (!here || r.text(512) !== address.lineage) r.fail('belongs to another lineage');
  const generation = r.varint(0xffff_ffff);
  const id = r.raw(receiptIdBytes);
  const head = envelope.payload.subarray(0, r.position);
  const body = r.blob(storedReceiptBytesMax);
  r.end();
  if (envelope.bytes !== bytes.length) r.fail('bytes after its end');
  const dataKey = address.dataKeys.find((known) => known.generation === generation);
  if (dataKey === undefined) {
    throw new HoldfastError(
      'E_KEY_MISSING',
      `${what} was encrypted with data key ${generation}, which is not known here`,
    );
  }
  const plain = dataKey.key === undefined ? body : unpadded(open(body, dataKey.key, id, head, what), what);
  return new TextDecoder().decode(plain);
}

function headOf({ repository, domain, lineage }: ReceiptAddress, generation: number, id: Uint8Array): Uint8Array {
  const w = new ByteWriter(512);
  const repositoryId = fromHex(repository);
  invariant(repositoryId?.length === repositoryIdBytes, 'a repository id is 16 bytes in hexadecimal');
  invariant(id.length === receiptIdBytes, 'a receipt has an id of 32 bytes');
  w.raw(repositoryId);
  w.text(domain);
  w.text(lineage);
  w.varint(generation);
  w.raw(id);
  return w.take();
}

function keyOf(dataKey: Uint8Array, id: Uint8Array): Uint8Array {
  return deriveKey(dataKey, id, utf8Bytes('holdfast/1/receipt'), 32);
}

function seal(plain: Uint8Array, dataKey: Uint8Array, id: Uint8Array, head: Uint8Array): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', keyOf(dataKey, id), nonce);
  cipher.setAAD(head);
  return concatBytes([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function open(sealed: Uint8Array, dataKey: Uint8Array, id: Uint8Array, head: Uint8Array, what: string): Uint8Array {
  const end = sealed.length - gcmTagBytes;
  if (end < 0) throw new HoldfastError('E_DAMAGED', `${what} is too short`);
  const decipher = createDecipheriv('aes-256-gcm', keyOf(dataKey, id), nonce, { authTagLength: gcmTagBytes });
  decipher.setAAD(head);
  decipher.setAuthTag(sealed.subarray(end));
  try {
    return concatBytes([decipher.update(sealed.subarray(0, end)), decipher.final()]);
  } catch (cause) {
    throw new HoldfastError('E_DAMAGED', `${what} cannot be decrypted`, { cause });
  }
}

/** Length, text, zeros: how long a receipt is says how many volumes a pod has. */
function padded(plain: Uint8Array): Uint8Array {
  const w = new ByteWriter(plain.length + 512);
  w.blob(plain);
  w.raw(new Uint8Array(paddedBytes(w.length) - w.length));
  return w.take();
}

function unpadded(plain: Uint8Array, what: string): Uint8Array {
  return new ByteReader(plain, what).blob(receiptTextMax);
}
