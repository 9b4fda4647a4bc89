/** JSON from outside: nothing of it is believed before it was looked at. */

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/** Something that was read has another form than it must have. */
export class MalformedError extends Error {
  override readonly name = 'MalformedError';
  /** Where, such as `spec.volumes[2].name`. */
  readonly path: string;

  constructor(path: string, expected: string) {
    super(`${path === '' ? 'the document' : path} is not ${expected}`);
    this.path = path;
  }
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isList(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

/** Its own property: what JavaScript's objects inherit is not there. */
export function member(object: JsonObject, key: string): Json | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/** A place in a document, from which members are read strictly; what is absent or null is undefined. */
export class JsonReader {
  readonly value: JsonObject;
  readonly path: string;

  constructor(value: Json | undefined, path: string) {
    if (!isObject(value)) throw new MalformedError(path, 'an object');
    this.value = value;
    this.path = path;
  }

  #at(key: string): string {
    return this.path === '' ? key : `${this.path}.${key}`;
  }

  raw(key: string): Json | undefined {
    return member(this.value, key) ?? undefined;
  }

  text(key: string): string | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === 'string') return value;
    throw new MalformedError(this.#at(key), 'a string');
  }

  requiredText(key: string): string {
    const value = this.text(key);
    if (value === undefined || value === '') throw new MalformedError(this.#at(key), 'a string with content');
    return value;
  }

  boolean(key: string): boolean | undefined {
    const value = this.raw(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw new MalformedError(this.#at(key), 'true or false');
  }

  /** A whole number from 0 to 2^53. */
  count(key: string): number | undefined {
    const value = this.raw(key);
    if (value === undefined || (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0)) return value;
    throw new MalformedError(this.#at(key), 'a whole number');
  }

  object(key: string): JsonReader | undefined {
    const value = this.raw(key);
    return value === undefined ? undefined : new JsonReader(value, this.#at(key));
  }

  /** A list of objects; empty when it is absent. */
  objects(key: string): readonly JsonReader[] {
    const value = this.raw(key);
    if (value === undefined) return [];
    if (!isList(value)) throw new MalformedError(this.#at(key), 'a list');
    return value.map((item, index) => new JsonReader(item, `${this.#at(key)}[${index}]`));
  }

  texts(key: string): readonly string[] {
    const value = this.raw(key);
    if (value === undefined) return [];
    if (!isList(value) || !value.every((item) => typeof item === 'string')) {
      throw new MalformedError(this.#at(key), 'a list of strings');
    }
    return value;
  }

  /** An object whose members are strings; without a prototype. */
  textMap(key: string): Readonly<Record<string, string>> {
    const map: Record<string, string> = Object.create(null);
    for (const [name, value] of Object.entries(this.object(key)?.value ?? {})) {
      if (typeof value !== 'string') throw new MalformedError(`${this.#at(key)}.${name.slice(0, 100)}`, 'a string');
      map[name] = value;
    }
    return map;
  }

  /** Names that are not among `known`. */
  unknown(known: readonly string[]): readonly string[] {
    return Object.keys(this.value).filter((key) => !known.includes(key));
  }
}
