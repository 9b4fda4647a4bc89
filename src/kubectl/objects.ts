/** Objects of a cluster, read with the caller's rights. */
import { HoldfastError } from '../engine/model/errors.ts';
import { isList, isObject, type Json, type JsonObject, member } from '../webhook/json.ts';
import type { Cluster, ClusterAnswer } from './cluster.ts';

/** Undefined when there is none. E_CLUSTER_REFUSED where the caller may not, named by `what`. */
export async function findObject(
  cluster: Cluster,
  path: string,
  what: string,
  signal: AbortSignal,
): Promise<JsonObject | undefined> {
  const answer = await cluster.request('GET', path, { signal });
  return answer.status === 404 ? undefined : objectOf(answer, `read ${what}`);
}

export async function getObject(
  cluster: Cluster,
  path: string,
  what: string,
  signal: AbortSignal,
): Promise<JsonObject> {
  const found = await findObject(cluster, path, what, signal);
  if (found !== undefined) return found;
  throw new HoldfastError('E_CLUSTER_REFUSED', `there is no ${what}`, {
    remedy: 'Look at the name, at the namespace (-n) and at the context (--context).',
  });
}

const pageItems = 500;

/** All items of a list, page by page. `path` without a query. */
export async function listObjects(
  cluster: Cluster,
  path: string,
  { what, selector, signal }: { readonly what: string; readonly selector?: string; readonly signal: AbortSignal },
): Promise<readonly JsonObject[]> {
  const items: JsonObject[] = [];
  for (let from = ''; ; ) {
    const query = new URLSearchParams({ limit: String(pageItems) });
    if (selector !== undefined) query.set('labelSelector', selector);
    if (from !== '') query.set('continue', from);
    const page = objectOf(await cluster.request('GET', `${path}?${query}`, { signal }), `list ${what}`);
    const given = member(page, 'items');
    if (isList(given)) items.push(...given.filter((each) => isObject(each)));
    const metadata = member(page, 'metadata');
    const next = isObject(metadata) ? member(metadata, 'continue') : undefined;
    if (typeof next !== 'string' || next === '') return items;
    from = next;
  }
}

/** The object of an answer that went well. E_CLUSTER_REFUSED with what the API server says of one that did not. */
export function objectOf({ status, object }: ClusterAnswer, doing: string): JsonObject {
  const body = object as Json;
  if (status >= 200 && status < 300 && isObject(body)) return body;
  const said = isObject(body) ? member(body, 'message') : undefined;
  throw new HoldfastError(
    'E_CLUSTER_REFUSED',
    `cannot ${doing}: ${typeof said === 'string' ? said.slice(0, 2000) : `status ${status}`}`,
    status === 401 || status === 403
      ? { remedy: 'Have somebody give you this right, or use a context that has it (--context).' }
      : {},
  );
}

/** A text at a path of members; empty where there is none. */
export function textAt(object: Json | undefined, ...path: readonly string[]): string {
  const value = valueAt(object, ...path);
  return typeof value === 'string' ? value : '';
}

export function valueAt(object: Json | undefined, ...path: readonly string[]): Json | undefined {
  let value = object;
  for (const key of path) {
    if (!isObject(value)) return undefined;
    value = member(value, key);
  }
  return value;
}

/** Objects of a list at a path; empty where there is none. */
export function objectsAt(object: Json | undefined, ...path: readonly string[]): readonly JsonObject[] {
  const value = valueAt(object, ...path);
  return isList(value) ? value.filter((each) => isObject(each)) : [];
}
