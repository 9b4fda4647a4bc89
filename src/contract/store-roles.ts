/**
 * Who may do what in a store: the least that each role needs, in one table. The policies of store-policies.ts are written from it, and
 * the answers that a store gives about some credentials are held against it. docs/stores.md, "Permissions". Where things lie comes in
 * as text, made by lineage/store-places.ts.
 */
/**
 * - agent: keeps one lineage, or those of a workload: creates its records, packs and receipts, and reads what it needs;
 * - restore: reads them;
 * - gc: lists everything, deletes records, packs, receipts and pins, and creates its decisions;
 * - people: read everything, pin, and release suspects;
 * - setup: makes the repository, the keys of workloads, and tries out the store.
 */
export type Role = 'agent' | 'restore' | 'gc' | 'people' | 'setup';

export const roles: readonly Role[] = ['agent', 'restore', 'gc', 'people', 'setup'];

/** create: never where an object stands. endUploads: list and give up. */
export type Verb = 'read' | 'list' | 'create' | 'delete' | 'endUploads';

/** `where`: keys of the store with `*` for any characters and `?` for one. */
export interface Grant {
  readonly verb: Verb;
  readonly where: readonly string[];
}

/** Where a role finds what it is for: patterns, or prefixes that end with a slash. */
export interface RolePlaces {
  /** Prefix of a lineage's objects. */
  readonly lineage: string;
  /** Pattern of what of it is listed: of everything also the names of lineages. */
  readonly listed: string;
  /** Pattern of the keys of its workload. */
  readonly keys: string;
  /** Pattern of its pins. */
  readonly pins: string;
}

/** Those of the whole repository. */
export const everyPlace: RolePlaces = {
  lineage: 'v1/l/*/',
  listed: 'v1/l/*',
  keys: 'v1/key/*',
  pins: 'v1/pin/*',
};
const repositoryKey = 'v1/repo';
const probes = 'v1/probe/*';

export function grantsOf(role: Role, { lineage, listed, keys, pins }: RolePlaces): readonly Grant[] {
  const reading: readonly Grant[] = [
    { verb: 'read', where: [repositoryKey, keys, `${lineage}*`] },
    { verb: 'list', where: [keys, listed] },
  ];
  switch (role) {
    case 'restore':
      return reading;
    case 'agent':
      return [
        ...reading,
        { verb: 'create', where: [`${lineage}log/*`, `${lineage}pk/*`, `${lineage}receipt/*`] },
        { verb: 'endUploads', where: [`${lineage}pk/*`] },
      ];
    case 'gc':
      return [
        { verb: 'read', where: ['v1/*'] },
        { verb: 'list', where: ['v1/*'] },
        { verb: 'create', where: [`${everyPlace.lineage}gc/*`, 'v1/audit/gc*'] },
        {
          verb: 'delete',
          where: [
            `${everyPlace.lineage}log/*`,
            `${everyPlace.lineage}pk/*`,
            `${everyPlace.lineage}receipt/*`,
            everyPlace.pins,
          ],
        },
        { verb: 'endUploads', where: [`${everyPlace.lineage}pk/*`] },
      ];
    case 'people':
      return [
        { verb: 'read', where: ['v1/*'] },
        { verb: 'list', where: ['v1/*'] },
        { verb: 'create', where: [pins, `${lineage}ack/*`, 'v1/audit/people*'] },
      ];
    case 'setup':
      return [
        { verb: 'read', where: [repositoryKey, everyPlace.keys, probes] },
        { verb: 'list', where: ['v1/*'] },
        { verb: 'create', where: [repositoryKey, everyPlace.keys, probes] },
        { verb: 'delete', where: [probes] },
        { verb: 'endUploads', where: [probes] },
      ];
  }
}

/** Something that credentials may or may not do. `overwrite` belongs to no role. */
export interface Question {
  readonly verb: Verb | 'overwrite';
  /** Key, or of a list the prefix, that it is asked about. */
  readonly key: string;
  /** For people: `delete records of the lineage`. */
  readonly text: string;
}

export function mayDo(role: Role, places: RolePlaces, { verb, key }: Pick<Question, 'verb' | 'key'>): boolean {
  return grantsOf(role, places).some((grant) => grant.verb === verb && grant.where.some((where) => fits(where, key)));
}

function fits(pattern: string, key: string): boolean {
  const escaped = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${escaped}$`).test(key);
}
