/** What could not be read, by object, and what that costs. Bounded, however much is damaged. */
import type { HoldfastError } from '../model/errors.ts';
import { displayPath } from '../model/rel-path.ts';
import { NameTally } from '../model/name-tally.ts';
import type { LostSubtree } from './walk-tree.ts';

const objectsKept = 100;
/** Counted, but without their files. */
const othersKept = 10_000;
const whysKept = 8;
const subtreesKept = 50;

export interface DamagedObject {
  readonly key: string;
  readonly pack: string | undefined;
  /** What is wrong, segment by segment, the first few. */
  readonly why: readonly string[];
  readonly segments: number;
  /** Files that cannot be restored for it. */
  readonly files: number;
  readonly names: readonly string[];
}

export interface LostRange {
  /** No name from here on, as far as it is known; empty for the beginning. */
  readonly from: string;
  /** Up to here, exclusive; undefined for the end. */
  readonly to: string | undefined;
  readonly files: number;
  readonly bytes: number;
  readonly why: string;
}

export interface DamageReport {
  /** Damaged objects; those beyond a hundred are only counted. */
  readonly objects: readonly DamagedObject[];
  readonly objectCount: number;
  /** Parts of the tree of which not even the names can be read. */
  readonly subtrees: readonly LostRange[];
  /** Files that are lost, by name or inside a subtree. */
  readonly files: number;
}

interface ObjectTally {
  readonly key: string;
  readonly pack: string | undefined;
  readonly segments: Set<number>;
  readonly why: string[];
  readonly names: NameTally;
}

export class DamageTally {
  readonly #objects = new Map<string, ObjectTally>();
  readonly #subtrees: LostRange[] = [];
  readonly #others = new Set<string>();
  #files = 0;
  readonly #lost: { readonly lower: Uint8Array; readonly upper: Uint8Array | undefined }[] = [];

  get any(): boolean {
    return this.#objects.size > 0 || this.#subtrees.length > 0 || this.#files > 0;
  }

  /** Ranges of keys of which nothing is known. */
  get lost(): readonly { readonly lower: Uint8Array; readonly upper: Uint8Array | undefined }[] {
    return this.#lost;
  }

  /** Bytes of an object are wrong. `file`: what that costs, if it is known. */
  add(where: DamagePlace, file: Uint8Array | undefined): void {
    const object = this.#object(where.key, where.pack);
    if (file !== undefined) {
      this.#files++;
      object?.names.add(file);
    }
    if (object === undefined) return;
    if (where.segment !== undefined && object.segments.has(where.segment)) return;
    if (where.segment !== undefined && object.segments.size < 1e5) object.segments.add(where.segment);
    if (object.why.length < whysKept && !object.why.includes(where.why)) object.why.push(where.why);
  }

  /** A file is lost together with something that was reported already. */
  addFile(): void {
    this.#files++;
  }

  addSubtree(lost: LostSubtree): void {
    this.add(placeOf(lost.error), undefined);
    this.#files += lost.files;
    this.#lost.push({ lower: lost.lower, upper: lost.upper });
    if (this.#subtrees.length >= subtreesKept) return;
    this.#subtrees.push({
      from: displayPath(lost.lower),
      to: lost.upper === undefined ? undefined : displayPath(lost.upper),
      files: lost.files,
      bytes: lost.bytes,
      why: lost.error.message,
    });
  }

  report(): DamageReport {
    return {
      objects: [...this.#objects.values()].map(({ key, pack, why, segments, names }) => ({
        key,
        pack,
        why,
        segments: segments.size,
        files: names.count,
        names: names.names,
      })),
      objectCount: this.#objects.size + this.#others.size,
      subtrees: this.#subtrees,
      files: this.#files,
    };
  }

  #object(key: string, pack: string | undefined): ObjectTally | undefined {
    const name = key === '' ? (pack ?? '') : key;
    let object = this.#objects.get(name);
    if (object !== undefined) return object;
    if (this.#objects.size >= objectsKept) {
      if (this.#others.size < othersKept) this.#others.add(name);
      return undefined;
    }
    object = { key, pack, segments: new Set(), why: [], names: new NameTally() };
    this.#objects.set(name, object);
    return object;
  }
}

export interface DamagePlace {
  readonly key: string;
  readonly pack: string | undefined;
  readonly segment: number | undefined;
  readonly why: string;
}

/** Where an E_DAMAGED says that the damage is. */
export function placeOf(error: HoldfastError): DamagePlace {
  const { key, pack, segment } = error.details;
  return {
    key: typeof key === 'string' ? key : '',
    pack: typeof pack === 'string' ? pack : undefined,
    segment: typeof segment === 'number' ? segment : undefined,
    why: error.message,
  };
}

/** One line for people: how much, and the first names. */
export function describeDamage(report: DamageReport): string {
  const { objects, objectCount, files, subtrees } = report;
  const names = objects.flatMap((object) => object.names).slice(0, 3);
  const ranges = subtrees
    .slice(0, 2)
    .map(({ from, to }) => `names from ${from || 'the beginning'} to ${to ?? 'the end'}`);
  const what = [...names, ...ranges];
  const where = objects
    .slice(0, 3)
    .map(({ key, pack }) => key || pack || 'an object')
    .join(', ');
  return (
    `${objectCount} damaged object${objectCount === 1 ? '' : 's'} (${where}) cost ${files} file${files === 1 ? '' : 's'}` +
    (what.length > 0 ? `: ${what.join(', ')}${files > what.length ? ', …' : ''}` : '')
  );
}
