/**
 * Becoming the writer of a lineage: LIST the head, decide, create a CLAIM at the lowest empty slot above it, and LIST again. Only
 * the second LIST makes it certain: a claimant that slept may have filled a gap left by trimming, far below the real head.
 */
import { logKey, parseLogKey } from '../format/object-keys.ts';
import { emptyPackList } from '../format/pack-table.ts';
import { encodeRecord, type LogRecord, recordBytesMax, type RecordHeader, type RecordLink } from '../format/record.ts';
import { equalBytes, utf8Bytes } from '../model/bytes.ts';
import { HoldfastError } from '../model/errors.ts';
import {
  type HolderId,
  type LineageName,
  type RecordId,
  type Slot,
  toEpoch,
  toRecordId,
  toSlot,
} from '../model/ids.ts';
import type { Clock } from '../ports/clock.ts';
import type { HolderState, HolderStore } from '../ports/holder-store.ts';
import type { Liveness } from '../ports/liveness.ts';
import type { ObjectInfo, ObjectWriter, UnfinishedUpload, WaitOptions } from '../ports/object-store.ts';
import type { RandomSource } from '../ports/random.ts';
import { newestGood, readBase } from './base.ts';
import { type ClaimQuestion, decideClaim, type EpochFacts } from './claim-rule.ts';
import { labelsOf, LogWriter, type WriterParts } from './commit.ts';
import { createObject } from './create-object.ts';
import { readEpochs } from './epochs.ts';
import type { LineageWriter } from './lineage-writer.ts';
import { LineageLog, listNewest, type LogHead } from './log.ts';
import type { DomainAccess } from './repository.ts';
import { endUnfinished, findUnfinished } from './unfinished.ts';

export interface ClaimOptions {
  readonly store: ObjectWriter;
  readonly access: DomainAccess;
  readonly lineage: LineageName;
  readonly holder: HolderStore;
  /** Pod or host name, for people. */
  readonly holderName: string;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly liveness: Liveness;
  /** See `ClaimQuestion`. */
  readonly policy: ClaimQuestion['policy'];
  /** Whether the volumes hold anything of value already; default true. */
  readonly used?: boolean;
  /** Counts these holders as gone, whatever `liveness` says; true: those that are met first. */
  readonly take?: boolean | ReadonlySet<HolderId>;
  /** What the volumes begin with where that was chosen and is older than the newest good CHECKPOINT; the CLAIM names it as its base. */
  readonly base?: LogRecord;
  /** Of the CLAIM. */
  readonly labels?: Readonly<Record<string, string>>;
  /** The volumes are still being restored: CHECKPOINTs are refused until `restoreCompleted`. */
  readonly restorePending?: boolean;
  /** What was asked for already; by default it is asked for now. */
  readonly look?: FirstLook;
  readonly signal?: AbortSignal;
}

/** What a claim reads first. It takes the lineage's name and no key, so a command can ask for it before it has opened anything. */
export interface FirstLook {
  readonly newest: Promise<readonly ObjectInfo[]>;
  readonly unfinished: Promise<readonly UnfinishedUpload[]>;
}

/** Asks for it. It may be older than the holder's lock: what this holder's own last process did since is seen by its state. */
export function lookFirst(store: ObjectWriter, lineage: LineageName, options: WaitOptions): FirstLook {
  const newest = listNewest(store, lineage, options);
  // Whoever looks so early may end for another reason.
  newest.catch(() => undefined);
  return { newest, unfinished: findUnfinished(store, lineage, options) };
}

/** Rounds lost to other claimants before giving up; each loss means that somebody else got through. */
const roundsMax = 16;
const holderNameBytesMax = 253;

/**
 * The writer of the lineage, under a new CLAIM or the holder's own newest one. Once for each claim, uploads that killed processes
 * have left are ended; that is looked for beside the other requests. E_LINEAGE_HELD when another holder may still be
 * alive, E_POD_GONE when this holder itself is known to be gone, E_DIVERGED when one that is gone committed what these volumes do not contain; E_STORE_*, E_STATE_DIR, E_ABORTED.
 */
export async function claimLineage(options: ClaimOptions): Promise<LineageWriter> {
  const look = options.look ?? lookFirst(options.store, options.lineage, waitingOf(options.signal));
  const writer = await claim(options, look);
  await endUnfinished(await look.unfinished, options.lineage, writer);
  return writer;
}

async function claim(options: ClaimOptions, look: FirstLook): Promise<LineageWriter> {
  const log = new LineageLog(options.store, options.access, options.lineage);
  const parts: WriterParts = { ...options, log, holderName: cutName(options.holderName) };
  let state = await options.holder.load();
  const gone = new Set<HolderId>(typeof options.take === 'object' ? options.take : []);
  for (let round = 0; round < roundsMax; round++) {
    const newest = round === 0 ? await currentOf(look, options.lineage, state) : undefined;
    const head = await log.head({ ...options, newest });
    const epochs = await readEpochs(
      log,
      head.record,
      { me: state.holder, lowest: lowestClaim(options, state) },
      options,
    );
    if (options.take === true && round === 0) for (const epoch of epochs) gone.add(epoch.holder);
    await askWhoIsGone(options, state.holder, epochs, gone);
    const decision = decideClaim({
      me: state.holder,
      epochs,
      gone,
      policy: options.policy,
      used: options.used ?? true,
      includes: state.includes,
    });
    if (decision.action === 'wait') throw held(options.lineage, head, decision.holders);
    if (decision.action === 'diverged') throw diverged(options.lineage, decision.over);
    if (decision.action === 'reuse') return await openWriter(parts, options, state, head.record as LogRecord);
    if (await isGone(options, state.holder)) throw goneItself(options.lineage, state.holder);
    const attempt = await placeClaim(parts, options, state, head);
    state = attempt.state;
    const confirmed = await confirm(log, attempt.claim, options);
    if (confirmed) return await openWriter(parts, options, state, confirmed);
  }
  throw new HoldfastError('E_LINEAGE_HELD', `other claimants were faster ${roundsMax} times on ${options.lineage}`);
}

/**
 * The first look, unless this holder has sent something to a higher slot than there was: by a process that held the lock before this
 * one and may have ended after the look. A claim from an old head would be safe and in vain, and so would the capture that follows.
 */
async function currentOf(
  look: FirstLook,
  lineage: LineageName,
  { last }: HolderState,
): Promise<readonly ObjectInfo[] | undefined> {
  const newest = await look.newest;
  const slots = newest.map(({ key }) => parseLogKey(lineage, key) ?? toSlot(0));
  return last !== undefined && last.slot > Math.max(0, ...slots) ? undefined : newest;
}

/**
 * How far down the log may matter. A holder that never claimed looks at the newest epoch only; but when volumes are in use and
 * its private directory is empty, it may have lost its memory, and looks through the whole chain of claims for itself.
 */
function lowestClaim(options: ClaimOptions, state: HolderState): Slot {
  const first = state.claims[0]?.slot;
  if (first !== undefined) return first;
  const forgetful = options.policy === 'pod' && (options.used ?? true);
  return forgetful ? toSlot(0) : newestOnly;
}

const newestOnly: Slot = toSlot(2 ** 40 - 1);

async function askWhoIsGone(
  options: ClaimOptions,
  me: HolderId,
  epochs: readonly EpochFacts[],
  gone: Set<HolderId>,
): Promise<void> {
  // Whose newest epoch it is needs no answer: the claim is reused.
  if (epochs[0]?.holder === me) return;
  for (const { holder, holderName: name } of epochs) {
    if (holder === me || gone.has(holder)) continue;
    if ((await options.liveness.isGone(holder, { name, ...waitingOf(options.signal) })) === 'gone') gone.add(holder);
  }
}

/** Whether this holder itself is gone: a pod that was deleted by force may still run, and must not take the lineage from its successor. */
async function isGone(options: ClaimOptions, me: HolderId): Promise<boolean> {
  const question = { name: options.holderName, ...waitingOf(options.signal) };
  return (await options.liveness.isGone(me, question)) === 'gone';
}

function waitingOf(signal: AbortSignal | undefined): WaitOptions {
  return signal === undefined ? {} : { signal };
}

interface PlacedClaim {
  readonly slot: Slot;
  readonly id: RecordId;
  readonly created: boolean;
  readonly record: LogRecord;
}

async function placeClaim(
  parts: WriterParts,
  options: ClaimOptions,
  state: HolderState,
  head: LogHead,
): Promise<{ readonly claim: PlacedClaim; readonly state: HolderState }> {
  const { access, log, clock, random } = parts;
  const slot = head.empty;
  const id = toRecordId(random.bytes(32));
  const previous = head.record;
  const header: RecordHeader = {
    repository: access.repository,
    domain: access.domain,
    lineage: log.lineage,
    slot,
    kind: 'CLAIM',
    id,
    epoch: toEpoch(slot),
    generation: access.dataKey.generation,
    holder: state.holder,
    holderName: parts.holderName,
    previousClaim: toSlot(previous?.header.epoch ?? 0),
    base: linkTo(options.base ?? (await newestGood(log, previous, options))),
    predecessor: linkTo(previous),
    timeMs: Math.floor(clock.nowMs()),
    suspect: false,
    consistency: undefined,
    labels: labelsOf(options.labels),
    totals: { files: 0, entries: 0, bytes: 0, newBytes: 0, storedBytes: 0 },
    origins: [],
    packList: emptyPackList,
  };
  const { bytes, record } = encodeRecord(header, undefined, [], { ...access, signingSeed: access.keys.signingSeed });
  // Durable before it is sent, so that a claim in flight is known after a restart.
  const remembered: HolderState = {
    ...state,
    claims: [...state.claims.filter((claim) => claim.slot !== slot), { slot, id }].sort((a, b) => a.slot - b.slot),
    last: { slot, ids: [...(state.last?.slot === slot ? state.last.ids : []), id] },
  };
  await parts.holder.save(remembered);
  const creation = await createObject(parts, logKey(log.lineage, slot), bytes, {
    bytesMax: recordBytesMax,
    signal: options.signal,
  });
  return { claim: { slot, id, created: creation.outcome === 'created', record }, state: remembered };
}

function linkTo(record: LogRecord | undefined): RecordLink | undefined {
  return record && { slot: record.header.slot, digest: record.digest };
}

/** The CLAIM, once it is the head of the log; undefined when it was lost to another, or fell into a gap. */
async function confirm(log: LineageLog, claim: PlacedClaim, options: ClaimOptions): Promise<LogRecord | undefined> {
  if (!claim.created) return undefined;
  const newest = await listNewest(options.store, options.lineage, waitingOf(options.signal));
  // What stands at its slot is known: an object that was created never changes.
  if (newest[0]?.key === logKey(log.lineage, claim.slot)) return claim.record;
  const { record } = await log.head({ ...options, newest });
  return record !== undefined && equalBytes(record.header.id, claim.id) ? record : undefined;
}

async function openWriter(
  parts: WriterParts,
  options: ClaimOptions,
  state: HolderState,
  newest: LogRecord,
): Promise<LineageWriter> {
  const { epoch, previousClaim } = newest.header;
  return new LogWriter(parts, {
    epoch,
    previousClaim,
    newest,
    base: await readBase(parts.log, newest, options),
    state: { ...state, claims: state.claims.filter((claim) => claim.slot >= Number(epoch)) },
    restorePending: options.restorePending ?? false,
  });
}

function held(lineage: LineageName, head: LogHead, holders: readonly HolderId[]): HoldfastError {
  const newest = head.record?.header;
  const who = newest === undefined ? holders.join(', ') : `${newest.holderName} (${newest.holder})`;
  return new HoldfastError('E_LINEAGE_HELD', `${lineage} is held by ${who} and was not sealed`, {
    details: { lineage, holders, slot: newest?.slot, holderName: newest?.holderName },
  });
}

function goneItself(lineage: LineageName, holder: HolderId): HoldfastError {
  return new HoldfastError(
    'E_POD_GONE',
    `the pod of this process (${holder}) is gone, so it does not claim ${lineage}`,
    {
      details: { lineage, holder },
    },
  );
}

function diverged(lineage: LineageName, over: EpochFacts): HoldfastError {
  return new HoldfastError(
    'E_DIVERGED',
    `${over.holder} committed record ${over.committed} of ${lineage} after this holder's last claim`,
    { details: { lineage, holder: over.holder, epoch: over.epoch, committed: over.committed } },
  );
}

/** Cut between characters, as readers accept 253 bytes. */
function cutName(name: string): string {
  let cut = name;
  while (utf8Bytes(cut).length > holderNameBytesMax) cut = [...cut].slice(0, -1).join('');
  return cut;
}

/**
 * Notes that the holder's volumes now hold what was committed up to `slot`, because they were restored from there: without it a
 * holder that gave a lineage away and restored the other's checkpoint would count as diverged.
 */
export async function noteRestored(holder: HolderStore, slot: Slot): Promise<void> {
  const state = await holder.load();
  if (state.includes < slot) await holder.save({ ...state, includes: slot });
}
