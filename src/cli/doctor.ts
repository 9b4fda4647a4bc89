/** `holdfast doctor`: whether a store can be relied on, and what these credentials may do in it. */
import { type Policy, type PolicyScope, type StoreRole, storePolicy, storeRoles } from '../contract/store-policies.ts';
import {
  domainKeyPrefix,
  lineagePrefix,
  packPrefix,
  pinPrefix,
  probesPrefix,
  receiptPrefix,
  repositoryObjectKey,
} from '../engine/format/object-keys.ts';
import { openLog } from '../engine/lineage/open-log.ts';
import { type Proof, proveCreateOnly } from '../engine/lineage/prove-create-only.ts';
import { domainOf, openRepository, type Repository } from '../engine/lineage/repository.ts';
import { errorCatalogue, HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { type LineageName, toLineageName } from '../engine/model/ids.ts';
import type { ObjectWriter } from '../engine/ports/object-store.ts';
import type { StoreFinding, StoreInspector, StoreRights } from '../engine/ports/store-inspector.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';
import { formatSeconds, printable, styled } from './print.ts';
import { encryptionOf, formOf, keyRingOf, noArguments } from './session.ts';

/** Signatures are refused by AWS when clocks are 15 minutes apart; times of checkpoints should be better than that. */
const skewMsMax = 60_000;

interface RoleFit {
  readonly role: StoreRole;
  readonly lacks: readonly string[];
  readonly exceeds: readonly string[];
}

export async function doctor(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('doctor', parsed);
  noArguments('doctor', parsed);
  const address = parsed.required('store');
  const named = parsed.text('lineage');
  const lineage = named === undefined || named === '' ? undefined : toLineageName(named);
  await using inspector = await host.openInspector(address);
  if (parsed.flag('policies')) return printPolicies(host, form, inspector, lineage);

  const examination = new Examination(host, parsed, inspector, lineage);
  await examination.run(address);
  const { findings, roles } = examination;
  const failed = findings.some(({ state }) => state === 'failed');
  if (form === 'json') {
    host.stdout.write(`${JSON.stringify({ store: address, healthy: !failed, findings, roles })}\n`);
  } else {
    printFindings(host, address, findings);
    printRoles(host, roles);
  }
  return failed ? errorCatalogue.E_UNHEALTHY.exit : 0;
}

class Examination {
  readonly findings: StoreFinding[] = [];
  roles: readonly RoleFit[] = [];
  readonly #host: Host;
  readonly #parsed: Parsed;
  readonly #inspector: StoreInspector;
  readonly #lineage: LineageName | undefined;

  constructor(host: Host, parsed: Parsed, inspector: StoreInspector, lineage: LineageName | undefined) {
    this.#host = host;
    this.#parsed = parsed;
    this.#inspector = inspector;
    this.#lineage = lineage;
  }

  async run(address: string): Promise<void> {
    await this.#tools();
    try {
      await using store = await this.#host.openWriter(address, { create: false });
      await store.stat(repositoryObjectKey, { signal: this.#host.signal });
      this.#say({ check: 'store', state: 'ok', seen: 'answers' });
      const repository = await this.#repository(store);
      if (repository !== undefined) await this.#log(store, repository);
      for (const finding of await this.#inspector.settings({ signal: this.#host.signal })) this.#say(finding);
      await this.#writing(store, repository);
    } catch (error) {
      this.#fail('store', error);
    }
  }

  #say(finding: StoreFinding): void {
    this.findings.push(finding);
  }

  /** What a check has met that is no finding of its own: its code and its remedy are one. */
  #fail(check: string, error: unknown): void {
    if (this.#host.signal.aborted || !(error instanceof HoldfastError)) throw error;
    this.#say({ check, state: 'failed', seen: `${error.code}: ${error.message}`, remedy: error.remedy });
  }

  async #tools(): Promise<void> {
    const { name } = await this.#host.fileTree();
    using compressor = await this.#host.compressor();
    const whole = name === 'native';
    this.#say({
      check: 'host',
      state: whole ? 'ok' : 'warning',
      seen: `file tree ${name}, compression by ${compressor.name}`,
      ...(whole ? {} : { remedy: 'Only Linux on x64 and arm64 keeps everything; checkpoints list what is missing.' }),
    });
  }

  async #repository(store: ObjectWriter): Promise<Repository | undefined> {
    const host = this.#host;
    try {
      const keyRing = await keyRingOf(host, this.#parsed);
      const settings = { keyRing, encryption: encryptionOf('doctor', this.#parsed) };
      const repository = await openRepository(store, settings, { signal: host.signal });
      this.#say({ check: 'repository', state: 'ok', seen: `${repository.id}, format ${repository.formatVersion}` });
      this.#say(
        repository.encryption === 'none'
          ? {
              check: 'encryption',
              state: 'warning',
              seen: 'none: who can read the store can read the data',
              remedy: 'Make a repository with a key, unless the store is as private as the data.',
            }
          : { check: 'encryption', state: 'ok', seen: `${repository.encryption}, and this key opens it` },
      );
      return repository;
    } catch (error) {
      this.#fail('repository', error);
      return undefined;
    }
  }

  async #log(store: ObjectWriter, repository: Repository): Promise<void> {
    if (this.#lineage === undefined) return;
    const { signal, clock } = this.#host;
    try {
      const { log } = await openLog(store, repository, this.#lineage, { signal });
      const { record } = await log.head({ signal });
      const age = record === undefined ? undefined : (clock.nowMs() - record.header.timeMs) / 1000;
      const seen =
        record === undefined || age === undefined
          ? 'it has no record yet'
          : `newest record ${record.header.slot}, ${record.header.kind}, ${formatSeconds(Math.max(0, age))} old`;
      this.#say({ check: 'lineage', state: 'ok', seen });
    } catch (error) {
      if (isHoldfastError(error, 'E_NOT_FOUND'))
        this.#say({ check: 'lineage', state: 'ok', seen: 'nothing stored yet' });
      else this.#fail('lineage', error);
    }
  }

  async #writing(store: ObjectWriter, repository: Repository | undefined): Promise<void> {
    let proof: Proof | undefined;
    let create = true;
    try {
      proof = await this.#prove(store);
    } catch (error) {
      if (isHoldfastError(error, 'E_UNFENCED') && repository?.unfenced === true) {
        const seen = `${error.message}; the repository was made --unfenced`;
        this.#say({ check: 'create-only', state: 'warning', seen, remedy: error.remedy });
      } else if (isHoldfastError(error, 'E_STORE_READ_ONLY')) {
        create = false;
        const where = this.#lineage === undefined ? ' outside of a lineage: name yours with --lineage' : '';
        this.#say({ check: 'create-only', state: 'unknown', seen: `these credentials cannot create anything${where}` });
      } else this.#fail('create-only', error);
    }
    if (proof === undefined) {
      this.roles = fits({ create, rights: undefined });
      return;
    }
    this.#say({
      check: 'create-only',
      state: 'ok',
      seen: 'refuses to overwrite; of eight writers at once one has won',
    });
    this.#clock(proof);
    const { signal } = this.#host;
    const completion = await this.#inspector.completionRefused(proof.key, { signal });
    if (completion !== undefined) this.#say(completionFinding(completion));
    const uploads = this.#lineage === undefined ? probesPrefix : packPrefix(this.#lineage);
    const rights = await this.#inspector.rights({ ...proof, uploads }, { signal });
    this.#say(rightsFinding(rights, this.#inspector.policies?.dialect));
    this.roles = fits({ create, rights });
  }

  /** Where the place for probes is closed, below the lineage: that is all that an agent may write. */
  async #prove(store: ObjectWriter): Promise<Proof> {
    const { random, clock, signal } = this.#host;
    const parts = { store, random, clock, signal };
    try {
      return await proveCreateOnly(parts);
    } catch (error) {
      if (!isHoldfastError(error, 'E_STORE_READ_ONLY') || this.#lineage === undefined) throw error;
      return await proveCreateOnly({ ...parts, prefix: `${receiptPrefix(this.#lineage)}probe/` });
    }
  }

  #clock({ clock: { storeMs, beforeMs, afterMs } }: Proof): void {
    // Stores tell whole seconds, some cut and some rounded.
    const early = beforeMs - 1000 - storeMs;
    const late = storeMs - 1000 - afterMs;
    const skewMs = Math.max(0, early, late);
    const check = 'clock';
    if (skewMs <= skewMsMax) this.#say({ check, state: 'ok', seen: 'agrees with that of the store' });
    else {
      const how = early > 0 ? 'ahead of' : 'behind';
      const remedy =
        'Set the clock of this host by NTP: times of checkpoints are told by it, and stores refuse requests.';
      this.#say({ check, state: 'warning', seen: `${formatSeconds(skewMs / 1000)} ${how} that of the store`, remedy });
    }
  }
}

function completionFinding(completion: StoreRights['overwrite']): StoreFinding {
  const check = 'completion';
  if (completion === 'refused') return { check, state: 'ok', seen: 'an upload of parts does not overwrite either' };
  if (completion === 'unknown') return { check, state: 'unknown', seen: 'uploads of parts could not be tried' };
  return {
    check,
    state: 'warning',
    seen: 'completing an upload of parts overwrites',
    remedy: 'Harmless by itself: names of packs are never used twice. Protect them by object lock or versioning.',
  };
}

function rightsFinding({ overwrite, delete: remove }: StoreRights, dialect: 'aws' | 'other' | undefined): StoreFinding {
  const check = 'rights';
  const may = [...(overwrite === 'granted' ? ['overwrite'] : []), ...(remove === 'granted' ? ['delete'] : [])];
  if (may.length === 0) return { check, state: 'ok', seen: 'these credentials can neither overwrite nor delete' };
  const remedy =
    dialect === undefined
      ? 'In a directory nothing can be forbidden to its user. Where that matters use a bucket with object lock or versioning.'
      : dialect === 'aws'
        ? 'Give agents the policy that holdfast doctor --policies prints.'
        : 'Give agents the policy that holdfast doctor --policies prints. Overwriting this server may not be able to refuse: turn on object lock or versioning.';
  return { check, state: 'warning', seen: `these credentials can ${may.join(' and ')}`, remedy };
}

/** Which rights each role needs beyond reading, and which would be too many. */
const roleRights: Readonly<Record<StoreRole, readonly ('create' | keyof StoreRights)[]>> = {
  agent: ['create', 'abortUpload', 'listUploads'],
  restore: [],
  gc: ['create', 'delete'],
  person: ['create'],
};
const rightTexts: Readonly<Record<'create' | keyof StoreRights, string>> = {
  create: 'create objects',
  overwrite: 'overwrite',
  delete: 'delete',
  abortUpload: 'give up uploads',
  listUploads: 'list uploads',
};
/** Who has these and does not need them could do harm with them. */
const harmful = ['create', 'overwrite', 'delete'] as const;

function fits({
  create,
  rights,
}: {
  readonly create: boolean;
  readonly rights: StoreRights | undefined;
}): readonly RoleFit[] {
  const has = (right: 'create' | keyof StoreRights): boolean | undefined => {
    if (right === 'create') return create;
    const told = rights?.[right] ?? 'unknown';
    return told === 'unknown' ? undefined : told === 'granted';
  };
  return storeRoles.map((role) => {
    const needs = roleRights[role];
    return {
      role,
      lacks: needs.filter((right) => has(right) === false).map((right) => rightTexts[right]),
      exceeds: harmful
        .filter((right) => !needs.includes(right) && has(right) === true)
        .map((right) => rightTexts[right]),
    };
  });
}

function scopeOf(policies: NonNullable<StoreInspector['policies']>, lineage: LineageName | undefined): PolicyScope {
  return {
    ...policies,
    ...(lineage === undefined
      ? { lineage: 'v1/l/*/', domain: 'v1/key/*/', pins: 'v1/pin/*/' }
      : {
          lineage: lineagePrefix(lineage),
          domain: domainKeyPrefix(domainOf(lineage)),
          pins: pinPrefix(lineage),
        }),
  };
}

function printPolicies(
  host: Host,
  form: 'text' | 'json',
  { policies }: StoreInspector,
  lineage: LineageName | undefined,
): number {
  if (policies === undefined) {
    throw new HoldfastError('E_USAGE', 'a directory has no policies: its user may do everything in it', {
      remedy: 'Run every process that writes there as one user of its own; or use a bucket.',
    });
  }
  const scope = scopeOf(policies, lineage);
  const all = Object.fromEntries(storeRoles.map((role): [string, Policy] => [role, storePolicy(role, scope)]));
  if (form === 'json') {
    host.stdout.write(`${JSON.stringify(all)}\n`);
    return 0;
  }
  for (const [role, policy] of Object.entries(all)) {
    host.stdout.write(`${styled(host.stdout, 'bold', role)}\n${JSON.stringify(policy, undefined, 2)}\n\n`);
  }
  if (policies.dialect === 'other') {
    host.stdout.write(
      'Servers other than AWS may not know conditions that forbid overwriting, so these have none: turn on object lock or versioning.\n',
    );
  }
  return 0;
}

const stateStyles = { ok: 'green', warning: 'yellow', failed: 'red', unknown: 'dim' } as const;

function printFindings({ stdout }: Host, address: string, findings: readonly StoreFinding[]): void {
  stdout.write(`${styled(stdout, 'bold', printable(address))}\n`);
  for (const { check, state, seen, remedy } of findings) {
    stdout.write(`  ${styled(stdout, stateStyles[state], state.padEnd(8))} ${check.padEnd(18)} ${printable(seen)}\n`);
    if (remedy !== undefined) stdout.write(`${' '.repeat(30)}${printable(remedy)}\n`);
  }
}

function printRoles({ stdout }: Host, roles: readonly RoleFit[]): void {
  for (const { role, lacks, exceeds } of roles) {
    const parts = [
      ...(lacks.length === 0 ? [] : [`cannot ${lacks.join(', ')}`]),
      ...(exceeds.length === 0 ? [] : [`can ${exceeds.join(', ')}, which it need not`]),
    ];
    const fit = parts.length === 0 ? 'has what it needs, and no more' : parts.join('; ');
    stdout.write(`  as ${role.padEnd(8)} ${lacks.length > 0 ? 'no' : 'yes'}: ${fit}\n`);
  }
}
