/** What the facts about a store mean for those who keep checkpoints in it. Pure: `doctor` asks, this judges. */
import type { Answer, BucketFacts, DirectoryFacts, LifecycleRule, Remnant } from '../engine/ports/store-inspector.ts';
import { formatBytes, formatCount } from './print.ts';

/** unknown: the store does not answer that question, or not to these credentials. */
export type State = 'ok' | 'warning' | 'failed' | 'unknown';

export interface Finding {
  readonly check: string;
  readonly state: State;
  /** What was seen, in one line. */
  readonly seen: string;
  readonly remedy?: string;
}

export function finding(check: string, state: State, seen: string, remedy?: string): Finding {
  return { check, state, seen, ...(remedy === undefined ? {} : { remedy }) };
}

const skewMsWarned = 60_000;
/** Beyond this AWS refuses requests. */
const skewMsMax = 15 * 60_000;
const uploadRuleRemedy =
  'Add a lifecycle rule with AbortIncompleteMultipartUpload of a few days: what a killed writer leaves is paid for.';
const protectionRemedy =
  'Turn on versions or object lock for the bucket (object-lock=governance:DAYS), so that what is overwritten or deleted can be brought back.';

export function bucketFindings(facts: BucketFacts, encrypted: boolean | undefined): readonly Finding[] {
  return [
    clockFinding(facts.aheadMs),
    protectionFinding(facts),
    expiryFinding(facts),
    uploadRuleFinding(facts),
    encryptionFinding(facts, encrypted),
    unfinishedFinding(facts.unfinished),
  ];
}

/** `aheadMs`: how far the store's clock is ahead of this one; undefined where it is not told. */
export function clockFinding(aheadMs: number | undefined): Finding {
  if (aheadMs === undefined) return finding('clock', 'unknown', 'the store does not tell its time');
  const seconds = Math.abs(aheadMs) / 1000;
  const said = `the store's clock is ${seconds < 2 ? 'equal to' : `${seconds.toFixed(0)} s ${aheadMs > 0 ? 'ahead of' : 'behind'}`} this one`;
  const remedy =
    'Set the clock of this machine right, by NTP: ages of checkpoints and signatures of requests depend on it.';
  if (Math.abs(aheadMs) >= skewMsMax) return finding('clock', 'failed', said, remedy);
  return seconds * 1000 < skewMsWarned ? finding('clock', 'ok', said) : finding('clock', 'warning', said, remedy);
}

/** Whether what somebody overwrites or deletes can be brought back. */
function protectionFinding({ versions, objectLock }: BucketFacts): Finding {
  const check = 'protection';
  const lock = objectLock.known ? objectLock.value : undefined;
  if (lock?.enabled) {
    const how = lock.byDefault === undefined ? 'where a write asks for it' : lock.byDefault;
    return finding(check, 'ok', `versions and object lock (${how})`);
  }
  if (!versions.known) {
    return finding(check, 'unknown', `whether it keeps versions: ${whyUnknown(versions)}`, protectionRemedy);
  }
  const locked = objectLock.known ? 'no object lock' : `object lock: ${whyUnknown(objectLock)}`;
  if (versions.value === 'kept') return finding(check, 'ok', `the bucket keeps versions; ${locked}`);
  const kept = versions.value === 'suspended' ? 'versions are suspended' : 'no versions are kept';
  return finding(
    check,
    'warning',
    `${kept}, ${locked}: nothing brings back what is overwritten or deleted`,
    protectionRemedy,
  );
}

function expiryFinding(facts: BucketFacts): Finding {
  const check = 'expiry rules';
  if (!facts.rules.known) return finding(check, 'unknown', whyUnknown(facts.rules));
  const harmful = facts.rules.value.filter((rule) => (rule.expires || rule.archives) && meets(rule, facts));
  if (harmful.length === 0) return finding(check, 'ok', 'no rule deletes or archives checkpoints');
  const named = harmful.map(
    ({ id, expires }) => `${id === '' ? 'a rule' : `rule ${id}`} ${expires ? 'deletes' : 'archives'}`,
  );
  return finding(
    check,
    'failed',
    `${named.join(', ')} objects below this prefix by their age: live data is as old as its first checkpoint`,
    `Limit the rule to another prefix than ${facts.prefix}v1/, or remove it; only garbage collection knows what is no longer needed.`,
  );
}

/** Whether a rule may touch an object of this store. */
function meets({ prefix, tags }: LifecycleRule, facts: BucketFacts): boolean {
  const own = `${facts.prefix}v1/`;
  const tagged = Object.entries(tags).every(([name, value]) => facts.tags[name] === value);
  return tagged && (own.startsWith(prefix) || prefix.startsWith(own));
}

function uploadRuleFinding(facts: BucketFacts): Finding {
  const check = 'upload rule';
  if (/^minio/i.test(facts.server)) return finding(check, 'ok', 'MinIO ends unfinished uploads by itself after a day');
  if (!facts.rules.known) return finding(check, 'unknown', whyUnknown(facts.rules));
  const own = `${facts.prefix}v1/`;
  const rule = facts.rules.value.find(
    ({ endsUploadsDays, prefix }) => endsUploadsDays !== undefined && own.startsWith(prefix),
  );
  if (rule === undefined) return finding(check, 'warning', 'no rule ends unfinished uploads', uploadRuleRemedy);
  return finding(check, 'ok', `unfinished uploads are ended after ${rule.endsUploadsDays} days`);
}

function encryptionFinding({ encryption }: BucketFacts, encrypted: boolean | undefined): Finding {
  const check = 'encryption';
  const own =
    encrypted === true
      ? 'the repository is encrypted; '
      : encrypted === false
        ? 'the repository is not encrypted; '
        : '';
  if (!encryption.known) return finding(check, 'unknown', `${own}by the bucket: ${whyUnknown(encryption)}`);
  if (encryption.value !== undefined) return finding(check, 'ok', `${own}the bucket encrypts with ${encryption.value}`);
  if (encrypted !== false) return finding(check, 'ok', `${own}the bucket does not encrypt by default`);
  return finding(
    check,
    'warning',
    `${own}neither does the bucket encrypt`,
    'Who can read the bucket can read the data: turn on encryption of the bucket, or make an encrypted repository.',
  );
}

function unfinishedFinding(unfinished: Answer<number>): Finding {
  const check = 'leftovers';
  if (!unfinished.known) return finding(check, 'unknown', `unfinished uploads: ${whyUnknown(unfinished)}`);
  if (unfinished.value === 0) return finding(check, 'ok', 'no unfinished uploads');
  return finding(
    check,
    'warning',
    `${formatCount(unfinished.value)} unfinished ${unfinished.value === 1 ? 'upload' : 'uploads'}, of writers that run or were killed`,
    'The next claim of their lineage ends those that nobody can use any more; a rule of the bucket ends the rest.',
  );
}

const remnantsNamed = 3;

/** What a trial was to remove and has left. */
export function remnantFindings(remnants: readonly Remnant[]): readonly Finding[] {
  if (remnants.length === 0) return [];
  const named = remnants
    .toSorted((a, b) => (`${a.kind} ${a.key}` < `${b.kind} ${b.key}` ? -1 : 1))
    .slice(0, remnantsNamed)
    .map(({ kind, key }) => (kind === 'object' ? key : `${kind} of ${key}`));
  const more = remnants.length > remnantsNamed ? ', …' : '';
  const reasons = [...new Set(remnants.map(({ reason }) => reason))].join(', ');
  return [
    finding(
      'trials',
      'warning',
      `${formatCount(remnants.length)} of this trial could not be removed and ${remnants.length === 1 ? 'stays' : 'stay'} ` +
        `(${reasons}): ${named.join(', ')}${more}`,
      'Nothing reads them. Remove them with credentials that may delete below v1/probe/ (role setup), and examine the store with those.',
    ),
  ];
}

export function whyUnknown({ why, reason }: Extract<Answer<unknown>, { readonly known: false }>): string {
  if (why === 'not-implemented') return 'this server does not know the question';
  return why === 'not-allowed' ? 'these credentials may not ask' : `no answer (${reason})`;
}

const freeBytesMin = 1024 ** 3;
const freeShareMin = 0.05;
const freeFilesMin = 10_000;

export function directoryFindings(facts: DirectoryFacts): readonly Finding[] {
  const { mode, ownedByThisUser, unfinished } = facts;
  const open = (mode & 0o077) !== 0;
  const bits = mode.toString(8).padStart(4, '0');
  return [
    facts.write.known
      ? finding('write', 'ok', 'files can be made in it')
      : finding(
          'write',
          'warning',
          `nothing can be created in it (${facts.write.reason})`,
          'Mount it read-write, and run as the user that the store belongs to. Restores work.',
        ),
    tried(
      'hard links',
      facts.link,
      'link() works, and refuses where a name is taken',
      'Put the store on one file system with hard links (ext4, xfs, btrfs, NFS; not FAT or exFAT).',
    ),
    tried(
      'sync',
      facts.sync,
      'files and directories can be synced',
      'Use a file system that syncs: else a power cut takes acknowledged checkpoints away.',
    ),
    facts.tellsCapitals.known && !facts.tellsCapitals.value
      ? finding(
          'names',
          'warning',
          'capitals and small letters are one name here',
          'Give lineages names that differ in more than that.',
        )
      : finding(
          'names',
          facts.tellsCapitals.known ? 'ok' : 'unknown',
          facts.tellsCapitals.known ? 'capitals are told from small letters' : 'not tried',
        ),
    fileSystemFinding(facts),
    spaceFinding(facts),
    open || !ownedByThisUser
      ? finding(
          'permissions',
          'warning',
          `mode ${bits}${ownedByThisUser ? '' : ', of another user'}`,
          `A store belongs to one user: chmod 700 ${facts.path}, and run every process as its owner.`,
        )
      : finding('permissions', 'ok', `mode ${bits}, of this user`),
    finding(
      'protection',
      'warning',
      'whoever may create files in a directory may also overwrite and delete them: roles cannot be told apart',
      'Keep a second store (holdfast copy), snapshots of the file system, or use a bucket with object lock.',
    ),
    unfinished === 0
      ? finding('leftovers', 'ok', 'no unfinished objects')
      : finding(
          'leftovers',
          'ok',
          `${formatCount(unfinished)} unfinished objects in tmp/: the next writer removes those of processes that have ended`,
        ),
  ];
}

function tried(check: string, answer: Answer<void>, ok: string, remedy: string): Finding {
  if (answer.known) return finding(check, 'ok', ok);
  if (answer.reason === 'nothing can be written') return finding(check, 'unknown', 'not tried: nothing can be written');
  return finding(check, 'failed', `it fails with ${answer.reason}`, remedy);
}

function fileSystemFinding({ fileSystem, isNetwork }: DirectoryFacts): Finding {
  if (fileSystem === 'tmpfs' || fileSystem === 'ramfs') {
    return finding(
      'file system',
      'warning',
      `${fileSystem}: gone when the machine restarts`,
      'Keep checkpoints on a disk.',
    );
  }
  if (!isNetwork) return finding('file system', 'ok', fileSystem);
  return finding(
    'file system',
    'warning',
    `${fileSystem}: on another machine, or unknown to this one`,
    'NFS: export with sync (the default) and mount hard. Others: only where hard links and sync mean what they say.',
  );
}

function spaceFinding({ freeBytes, totalBytes, freeFiles }: DirectoryFacts): Finding {
  const files = freeFiles === undefined ? '' : `, ${formatCount(freeFiles)} files`;
  const seen = `${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} free${files}`;
  const remedy = 'Free or add space: a full store takes no checkpoint; those in it are untouched.';
  if (freeBytes === 0 || freeFiles === 0) return finding('space', 'failed', seen, remedy);
  const little =
    freeBytes < freeBytesMin || freeBytes < totalBytes * freeShareMin || (freeFiles ?? freeFilesMin) < freeFilesMin;
  return little ? finding('space', 'warning', seen, remedy) : finding('space', 'ok', seen);
}
