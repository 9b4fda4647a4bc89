/** The part of `holdfast doctor --policies`: the policies, and how these credentials stand to them. */
import { dialectOf, type IamPolicy, storePolicy } from '../contract/store-policies.ts';
import { everyPlace, mayDo, type Question, type Role, type RolePlaces, roles } from '../contract/store-roles.ts';
import { domainKeyPrefix, lineagePrefix, pinPrefix, repositoryObjectKey } from '../engine/format/object-keys.ts';
import { domainOf } from '../engine/lineage/repository.ts';
import { storePlaces } from '../engine/lineage/store-places.ts';
import { toHex } from '../engine/model/bytes.ts';
import { type LineageName, toLineageName } from '../engine/model/ids.ts';
import type { BucketFacts, Right, StoreFacts, StoreInspector, StoreRights } from '../engine/ports/store-inspector.ts';
import type { RandomSource } from '../engine/ports/random.ts';
import type { Host } from './host.ts';
import { styled } from './print.ts';

export interface Answered extends Question {
  readonly right: Right;
}

export interface Standing {
  readonly role: Role;
  /** What the role needs and these credentials may not do. */
  readonly lacks: readonly string[];
  /** What they may do and the role does not need. */
  readonly exceeds: readonly string[];
}

export interface PolicyReport {
  /** Undefined where permissions are those of files. */
  readonly policies: Readonly<Record<Role, IamPolicy>> | undefined;
  readonly scope: string;
  readonly rights: readonly Answered[];
  readonly standings: readonly Standing[];
  readonly notes: readonly string[];
}

const directoryNote =
  'A directory has no roles: whoever may create files in it may overwrite and delete them. Keep a second store (holdfast copy), ' +
  'snapshots of the file system, or use a bucket with object lock.';
const overwriteNote =
  'These credentials may overwrite. Where policies of the server cannot demand the condition, turn on versions or object lock, so ' +
  'that what is overwritten can be brought back.';

export async function comparePolicies(
  host: Host,
  { rights }: StoreInspector,
  facts: StoreFacts,
  lineage: LineageName | undefined,
  random: RandomSource,
): Promise<PolicyReport> {
  const said = lineage ?? 'every lineage';
  if (facts.kind === 'directory' || rights === undefined) {
    return { policies: undefined, scope: said, rights: [], standings: [], notes: [directoryNote] };
  }
  const within: RolePlaces = lineage === undefined ? everyPlace : storePlaces({ lineage });
  const name = `doctor-${toHex(random.bytes(12))}`;
  const places = {
    lineage: lineage ?? toLineageName(`${name}/own/0`),
    other: toLineageName(`${name}/other/0`),
  };
  const answered = await askAll(questionsOf(places, name), rights, host.signal);
  const dialect = dialectOf(facts);
  const policies = Object.fromEntries(
    roles.map((role) => [role, storePolicy(role, within, { ...facts, dialect })]),
  ) as Readonly<Record<Role, IamPolicy>>;
  const mayOverwrite = answered.some(({ verb, right }) => verb === 'overwrite' && right === 'allowed');
  const notes = [
    ...(dialect === 'aws'
      ? []
      : [`${serverName(facts)}: its policies cannot demand If-None-Match; who may create may also overwrite.`]),
    ...(mayOverwrite ? [overwriteNote] : []),
  ];
  return {
    policies,
    scope: said,
    rights: answered,
    standings: roles.map((role) => standingOf(role, within, answered)),
    notes,
  };
}

function serverName({ server }: BucketFacts): string {
  return server === '' ? 'This server' : server;
}

async function askAll(
  questions: readonly Question[],
  rights: StoreRights,
  signal: AbortSignal,
): Promise<readonly Answered[]> {
  const answered: Answered[] = [];
  // One after the other: a server that counts refusals is not to take this for an attack.
  for (const question of questions) {
    answered.push({ ...question, right: await rights[question.verb](question.key, { signal }) });
  }
  return answered;
}

function standingOf(role: Role, within: RolePlaces, answered: readonly Answered[]): Standing {
  const needs = (question: Question): boolean => mayDo(role, within, question);
  return {
    role,
    lacks: answered.filter((each) => each.right === 'refused' && needs(each)).map(({ text }) => text),
    exceeds: answered.filter((each) => each.right === 'allowed' && !needs(each)).map(({ text }) => text),
  };
}

export function printPolicies({ stdout }: Host, report: PolicyReport): void {
  const { policies, scope, rights, standings, notes } = report;
  if (policies !== undefined) {
    for (const role of roles) {
      stdout.write(`\n${styled(stdout, 'bold', `Policy of ${role}`)}, for ${scope}\n`);
      stdout.write(`${JSON.stringify(policies[role], null, 2)}\n`);
    }
    stdout.write(`\n${styled(stdout, 'bold', 'What these credentials may do')}\n`);
    for (const { text, right } of rights) {
      const answer = typeof right === 'string' ? right : `unclear (${right.unclear})`;
      stdout.write(`  ${(right === 'allowed' ? 'may' : right === 'refused' ? 'may not' : answer).padEnd(8)} ${text}\n`);
    }
    stdout.write(`\n${styled(stdout, 'bold', 'Beside the policy of each role')}\n`);
    const nearest = standings.toSorted(
      (a, b) => a.lacks.length - b.lacks.length || a.exceeds.length - b.exceeds.length,
    )[0];
    for (const { role, lacks, exceeds } of standings) {
      const fits = lacks.length === 0 && exceeds.length === 0;
      stdout.write(
        `  ${role.padEnd(8)} ${fits ? 'exactly this' : `lacks ${lacks.length}, exceeds by ${exceeds.length}`}\n`,
      );
    }
    for (const text of nearest?.lacks ?? []) stdout.write(`  lacks for ${nearest?.role}: ${text}\n`);
    for (const text of nearest?.exceeds ?? []) stdout.write(`  exceeds ${nearest?.role}: ${text}\n`);
  }
  if (notes.length > 0) stdout.write('\n');
  for (const note of notes) stdout.write(`${styled(stdout, 'yellow', 'warning')} ${note}\n`);
}

/**
 * What is asked to tell the roles apart. `name` is new: nothing stands at a key that ends with it, and no object may ever be asked
 * to be deleted or written that does. `other` is a lineage that is not in the scope.
 */
export function questionsOf(
  places: { readonly lineage: LineageName; readonly other: LineageName },
  name: string,
): readonly Question[] {
  const own = lineagePrefix(places.lineage);
  const foreign = lineagePrefix(places.other);
  const keys = domainKeyPrefix(domainOf(places.lineage));
  return [
    { verb: 'read', key: repositoryObjectKey, text: 'read the repository object' },
    { verb: 'list', key: `${own}log/`, text: 'list records of the lineage' },
    { verb: 'list', key: 'v1/', text: 'list everything' },
    { verb: 'create', key: `${own}log/${name}`, text: 'create records of the lineage' },
    { verb: 'create', key: `${own}pk/${name}`, text: 'create packs of the lineage' },
    { verb: 'create', key: `${own}receipt/${name}`, text: 'create receipts of the lineage' },
    { verb: 'create', key: `${own}ack/${name}`, text: 'release suspects of the lineage' },
    { verb: 'create', key: `${own}gc/${name}`, text: 'create decisions of garbage collection' },
    { verb: 'create', key: `${pinPrefix(places.lineage)}${name}`, text: 'pin checkpoints of the lineage' },
    { verb: 'create', key: `${keys}${name}`, text: 'create keys of workloads' },
    { verb: 'create', key: `${foreign}log/${name}`, text: 'create records of another lineage' },
    { verb: 'overwrite', key: `${own}log/${name}`, text: 'overwrite records of the lineage' },
    { verb: 'overwrite', key: `${own}pk/${name}`, text: 'overwrite packs of the lineage' },
    { verb: 'delete', key: `${own}log/${name}`, text: 'delete records of the lineage' },
    { verb: 'delete', key: `${own}pk/${name}`, text: 'delete packs of the lineage' },
    { verb: 'delete', key: `${keys}${name}`, text: 'delete keys of workloads' },
    { verb: 'endUploads', key: `${own}pk/${name}`, text: 'end unfinished uploads of packs' },
  ];
}
