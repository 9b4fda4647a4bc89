/**
 * A path inside a volume is a tree key: its components joined by a zero byte. A name holds neither zero nor slash, so
 * comparing keys as bytes orders paths by component, a directory and all below it is one contiguous range, and names
 * that are not UTF-8 need no special care. The volume's root directory itself has no key.
 */
import { HoldfastError } from './errors.ts';

export const nameBytesMax = 255;
/** Longest key accepted from a stored tree; deeper than any tree that can be reached by descriptors in practice. */
export const keyBytesMax: number = 1024 * 1024;

const separator = 0;
const slash = 0x2f;
const dot = 0x2e;

/** Key of `name` inside the directory with key `parent` (empty for the volume's root). */
export function childKey(parent: Uint8Array, name: Uint8Array): Uint8Array {
  if (parent.length === 0) return name.slice();
  const key = new Uint8Array(parent.length + 1 + name.length);
  key.set(parent, 0);
  key[parent.length] = separator;
  key.set(name, parent.length + 1);
  return key;
}

/** The components of a key, as views. */
export function keyComponents(key: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let start = 0;
  for (let i = 0; i <= key.length; i++) {
    if (i === key.length || key[i] === separator) {
      parts.push(key.subarray(start, i));
      start = i + 1;
    }
  }
  return parts;
}

/** Key of the containing directory; empty for an entry of the volume's root. */
export function parentKey(key: Uint8Array): Uint8Array {
  const at = key.lastIndexOf(separator);
  return at < 0 ? key.subarray(0, 0) : key.subarray(0, at);
}

export function lastComponent(key: Uint8Array): Uint8Array {
  return key.subarray(key.lastIndexOf(separator) + 1);
}

/**
 * First key after everything below the directory `key`, itself excluded from that range: the key with 0x01 appended.
 * Every descendant starts with `key` 0x00, and no other key lies between.
 */
export function descendantsEnd(key: Uint8Array): Uint8Array {
  const end = new Uint8Array(key.length + 1);
  end.set(key, 0);
  end[key.length] = 1;
  return end;
}

/** Refuses what no directory listing can hold: empty names, `.`, `..`, slashes, over-long names. Stored trees are untrusted. */
export function checkKey(key: Uint8Array): void {
  if (key.length === 0 || key.length > keyBytesMax) throw hostileKey(key, 'its length');
  let start = 0;
  for (let i = 0; i <= key.length; i++) {
    const byte = i === key.length ? separator : (key[i] as number);
    if (byte === slash) throw hostileKey(key, 'a slash in a name');
    if (byte !== separator) continue;
    const length = i - start;
    if (length === 0) throw hostileKey(key, 'an empty name');
    if (length > nameBytesMax) throw hostileKey(key, 'a name longer than 255 bytes');
    if (key[start] === dot && (length === 1 || (length === 2 && key[start + 1] === dot))) {
      throw hostileKey(key, 'a name that is . or ..');
    }
    start = i + 1;
  }
}

function hostileKey(key: Uint8Array, why: string): HoldfastError {
  return new HoldfastError('E_HOSTILE', `refused path ${displayPath(key.subarray(0, 300))}: ${why}`);
}

/** The key as text of one character for each byte: equal and ordered as the bytes are, and fit for maps. */
export function keyText(key: Uint8Array): string {
  let text = '';
  for (let start = 0; start < key.length; start += 8192)
    text += String.fromCharCode(...key.subarray(start, start + 8192));
  return text;
}

/** Inverse of keyText. */
export function keyOfText(text: string): Uint8Array {
  const key = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) key[i] = text.charCodeAt(i);
  return key;
}

/** For people and JSON: slashes between components; bytes that are not printable UTF-8 as \xNN, backslash as \\. */
export function displayPath(key: Uint8Array): string {
  let text = '';
  for (const [i, part] of keyComponents(key).entries()) text += (i > 0 ? '/' : '') + displayName(part);
  return text;
}

const fatalDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function displayName(name: Uint8Array): string {
  let text: string | undefined;
  try {
    text = fatalDecoder.decode(name);
  } catch {
    text = undefined;
  }
  if (text !== undefined && !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\\]/u.test(text)) return text;
  let escaped = '';
  for (const byte of name) {
    if (byte === 0x5c) escaped += '\\\\';
    else if (byte >= 0x20 && byte < 0x7f) escaped += String.fromCharCode(byte);
    else escaped += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return escaped;
}

/** Inverse of displayPath; also takes plain text of a user. */
export function keyFromDisplay(text: string): Uint8Array {
  const bytes: number[] = [];
  const encoder = new TextEncoder();
  for (let i = 0; i < text.length; ) {
    const escaped = /^\\x([0-9a-f]{2})/.exec(text.slice(i, i + 4));
    if (escaped) {
      bytes.push(Number.parseInt(escaped[1] as string, 16));
      i += 4;
    } else if (text.startsWith('\\\\', i)) {
      bytes.push(0x5c);
      i += 2;
    } else if (text[i] === '/') {
      bytes.push(separator);
      i++;
    } else {
      const point = String.fromCodePoint(text.codePointAt(i) as number);
      bytes.push(...encoder.encode(point));
      i += point.length;
    }
  }
  return Uint8Array.from(bytes);
}
