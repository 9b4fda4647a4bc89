/** JSON Patch (RFC 6902), as much of it as injection needs: only what is ours is added, replaced or removed. */
import { isList, isObject, type Json, type JsonObject, member } from './json.ts';

export type PatchOperation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: Json }
  | { readonly op: 'remove'; readonly path: string };

/** RFC 6901: the parts of a pointer, escaped. */
export function pointer(...parts: readonly (string | number)[]): string {
  return parts.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** Whether two values are the same JSON; the order of members does not count. */
export function equalJson(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true;
  if (isList(a)) return isList(b) && a.length === b.length && a.every((item, index) => equalJson(item, b[index]));
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && equalJson(a[key], b[key]))
  );
}

/** Sets a member of an object that exists. */
export function setMember(path: string, object: JsonObject, key: string, value: Json): readonly PatchOperation[] {
  const present = member(object, key);
  if (equalJson(present, value)) return [];
  return [{ op: present === undefined ? 'add' : 'replace', path: `${path}${pointer(key)}`, value }];
}

/**
 * Makes the list at `path` the wanted one. Items that `isOurs` names are removed, replaced and added; the others stay as they
 * are and in their order, in `list` and in `wanted` alike.
 */
export function setItems(
  path: string,
  list: readonly Json[] | undefined,
  wanted: readonly Json[],
  isOurs: (item: Json) => boolean,
): readonly PatchOperation[] {
  if (list === undefined) return wanted.length === 0 ? [] : [{ op: 'add', path, value: wanted }];
  if (equalJson(list, wanted)) return [];
  const isInPlace =
    list.length === wanted.length && list.every((item, index) => isOurs(item) === isOurs(wanted[index] as Json));
  if (isInPlace) {
    return wanted.flatMap((value, index): readonly PatchOperation[] =>
      equalJson(list[index], value) ? [] : [{ op: 'replace', path: `${path}${pointer(index)}`, value }],
    );
  }
  const operations: PatchOperation[] = [];
  for (let index = list.length - 1; index >= 0; index--) {
    if (isOurs(list[index] as Json)) operations.push({ op: 'remove', path: `${path}${pointer(index)}` });
  }
  for (const [index, value] of wanted.entries()) {
    if (isOurs(value)) operations.push({ op: 'add', path: `${path}${pointer(index)}`, value });
  }
  return operations;
}

/** The document that a patch makes of `document`. Only for patches of `render`, which fit the document that they were made for. */
export function patched(document: Json, patch: readonly PatchOperation[]): Json {
  let result = document;
  for (const operation of patch) {
    const parts = operation.path
      .split('/')
      .slice(1)
      .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    result = patchedAt(result, parts, operation);
  }
  return result;
}

function patchedAt(value: Json, [key = '', ...rest]: readonly string[], operation: PatchOperation): Json {
  if (isList(value)) {
    const at = key === '-' ? value.length : Number(key);
    if (rest.length > 0) return value.with(at, patchedAt(value[at] as Json, rest, operation));
    if (operation.op === 'remove') return value.toSpliced(at, 1);
    return operation.op === 'add' ? value.toSpliced(at, 0, operation.value) : value.with(at, operation.value);
  }
  const object = isObject(value) ? value : {};
  if (rest.length > 0) return { ...object, [key]: patchedAt(member(object, key) ?? {}, rest, operation) };
  const { [key]: _, ...others } = object;
  return operation.op === 'remove' ? others : { ...object, [key]: operation.value };
}
