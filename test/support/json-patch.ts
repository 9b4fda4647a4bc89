/** Applies a JSON Patch (RFC 6902), written from the RFC and not from the code that makes patches. */

type Value = null | boolean | number | string | Value[] | { [key: string]: Value };

export interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from?: string;
  readonly value?: unknown;
}

/** A new document; throws where the RFC says that the patch fails. */
export function applyPatch<Document>(document: Document, patch: readonly Operation[]): Document {
  // The document's root is held, so that an operation may replace it.
  const holder = { root: structuredClone(document) as Value };
  for (const operation of patch) apply(holder, structuredClone(operation));
  return holder.root as Document;
}

function apply(holder: { root: Value }, { op, path, from, value }: Operation): void {
  switch (op) {
    case 'add':
      add(holder, path, value as Value);
      return;
    case 'remove':
      remove(holder, path);
      return;
    case 'replace':
      remove(holder, path);
      add(holder, path, value as Value);
      return;
    case 'move':
      if (path.startsWith(`${from}/`)) throw new Error(`cannot move ${from} into itself`);
      add(holder, path, remove(holder, from as string));
      return;
    case 'copy':
      add(holder, path, structuredClone(get(holder, from as string)));
      return;
    case 'test':
      if (JSON.stringify(sorted(get(holder, path))) !== JSON.stringify(sorted(value as Value))) {
        throw new Error(`test of ${path} failed`);
      }
      return;
    default:
      throw new Error(`no operation ${op}`);
  }
}

function partsOf(pointer: string): string[] {
  if (pointer === '') return ['root'];
  if (!pointer.startsWith('/')) throw new Error(`${pointer} is no pointer`);
  const parts = pointer.slice(1).split('/');
  if (parts.some((part) => /~(?![01])/.test(part))) throw new Error(`${pointer} is wrongly escaped`);
  return ['root', ...parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))];
}

function child(parent: Value, part: string): Value {
  if (Array.isArray(parent)) return parent[indexOf(part, parent.length - 1)] as Value;
  if (typeof parent !== 'object' || parent === null || !Object.hasOwn(parent, part)) {
    throw new Error(`there is no ${part}`);
  }
  return parent[part] as Value;
}

function indexOf(part: string, max: number): number {
  const index = Number(part);
  if (!/^(0|[1-9]\d*)$/.test(part) || index > max) throw new Error(`there is no index ${part}`);
  return index;
}

function get(holder: { root: Value }, pointer: string): Value {
  return partsOf(pointer).reduce<Value>(child, holder as unknown as Value);
}

function add(holder: { root: Value }, pointer: string, value: Value): void {
  const parts = partsOf(pointer);
  const last = parts.pop() as string;
  const parent = parts.reduce<Value>(child, holder as unknown as Value);
  if (Array.isArray(parent)) parent.splice(last === '-' ? parent.length : indexOf(last, parent.length), 0, value);
  else if (typeof parent === 'object' && parent !== null) {
    Object.defineProperty(parent, last, { value, enumerable: true, configurable: true, writable: true });
  } else throw new Error(`${pointer} lies in no container`);
}

function remove(holder: { root: Value }, pointer: string): Value {
  const parts = partsOf(pointer);
  const last = parts.pop() as string;
  const parent = parts.reduce<Value>(child, holder as unknown as Value);
  const value = child(parent, last);
  if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete (parent as { [key: string]: Value })[last];
  return value;
}

function sorted(value: Value): Value {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, sorted(each)]),
  );
}
