import { claimModel, claimRules } from './claim-rule.ts';
import { commitModel, commitRules } from './commit.ts';
import { compactionModel, compactionRules } from './compaction.ts';
import { explore, kindOf, type Model, type Outcome } from './explore.ts';
import { faultModel, faultRules } from './faults.ts';
import { forkPinModel, forkRules } from './fork-pins.ts';
import { initModel, initRules } from './init-container.ts';
import { rehydrateModel, rehydrateRules } from './rehydrate.ts';
import { replicaSlotModel, replicaSlotRules } from './replica-slots.ts';
import { longKeys, treeHeight, usualKeys } from './tree-height.ts';

/** When a run is made: with every `npm test`, with every check of a change, or at night. */
export type Level = 'quick' | 'check' | 'nightly';

/**
 * What a run must find. `complete`: no violation in exactly so many states, and no dead ends but those of `ends`. A run
 * with a rule dropped is a control: it must find the violation, or the dead end, that the rule prevents.
 */
export type Expected =
  | { readonly verdict: 'complete'; readonly states: number; readonly ends: readonly string[] }
  | { readonly verdict: 'violation'; readonly kind: string }
  | { readonly verdict: 'dead end'; readonly kind: string };

export type Run = {
  readonly name: string;
  /** The sentence of the protocol that the run is about. */
  readonly sentence: string;
  readonly bounds: string;
  readonly level: Level;
  readonly expected: Expected;
  readonly explore: () => Outcome;
};

/** Why an outcome is not what the run must find; undefined if it is. A run that hits its limit proves nothing. */
export function complaint({ expected }: Run, outcome: Outcome): string | undefined {
  const { verdict, states, violation, stuck } = outcome;
  if (expected.verdict === 'violation') {
    const found = violation === undefined ? verdict : kindOf(violation.what);
    return found === expected.kind ? undefined : `expected ${expected.kind}, found ${found}`;
  }
  if (verdict !== 'complete') return `expected complete, found ${violation?.what ?? verdict}`;
  const ends = [...stuck.keys()].sort();
  if (expected.verdict === 'dead end') {
    return ends.includes(expected.kind) ? undefined : `expected the dead end ${expected.kind}, found ${ends}`;
  }
  if (ends.join() !== [...expected.ends].sort().join()) return `expected the dead ends ${expected.ends}, found ${ends}`;
  return states === expected.states ? undefined : `expected ${expected.states} states, found ${states}`;
}

/** Nobody reads a bound in braces and quotes: `slots 6, commits 3+1`. */
function describe(bounds: object): string {
  return Object.entries(bounds)
    .map(([key, value]) => `${key} ${Array.isArray(value) ? value.join('+') : value}`)
    .join(', ');
}

const statesMax: Record<Level, number> = { quick: 1_000_000, check: 3_000_000, nightly: 40_000_000 };

type About = { readonly sentence: string; readonly level?: Level };

/** The runs of one model: with every rule, and with one rule dropped. */
function family<State, Bounds extends object, Rules extends object>(
  model: (bounds: Bounds, rules: Rules) => Model<State>,
  allRules: Rules,
): {
  holds: (name: string, bounds: Bounds, states: number, about: About & { ends?: readonly string[] }) => Run;
  control: (name: string, bounds: Bounds, dropped: Partial<Rules>, finds: string, about: About) => Run;
  ends: (name: string, bounds: Bounds, dropped: Partial<Rules>, finds: string, about: About) => Run;
} {
  const run = (
    name: string,
    bounds: Bounds,
    dropped: Partial<Rules>,
    expected: Expected,
    { sentence, level = 'quick' }: About,
  ): Run => ({
    name,
    sentence,
    level,
    expected,
    bounds: [bounds, dropped].map(describe).filter(Boolean).join('; '),
    explore: () => explore(model(bounds, { ...allRules, ...dropped }), statesMax[level]),
  });
  return {
    holds: (name, bounds, states, about) =>
      run(name, bounds, {}, { verdict: 'complete', states, ends: about.ends ?? [] }, about),
    control: (name, bounds, dropped, kind, about) => run(name, bounds, dropped, { verdict: 'violation', kind }, about),
    ends: (name, bounds, dropped, kind, about) => run(name, bounds, dropped, { verdict: 'dead end', kind }, about),
  };
}

// The sentences of the protocol, each with the runs that would fail without it.

const claims = 'CLAIM at the lowest empty slot above the head, then LIST again: a claim in a trimmed gap is void';
const whoMayClaim = 'Who may claim (rule F)';
const knownToBeGone = 'Known to be gone: a quorum read after the CLAIM was read says 404 or another UID';
const replicaSlotFree =
  'A replica slot is free only if its log is empty, its newest record is a SEAL, or its holder is known to be gone';
const refusesToCommit = 'The writer refuses to commit unless list(n) is within list(base) and packs(n)';
const ownEpoch = 'A valid record of my own epoch with another id: adopt it as base, go to n+1, upload anew';
const neverExpire =
  'Never expire the newest good CHECKPOINT, nor anything above it, nor the base named in the newest CLAIM';
const inlinedPack = 'A record with an inlined pack is also a pack';
const packName = 'A pack named for slot t may be deleted only if t <= the highest slot listed';
const whatIsTrimmed = 'Trimmed is only an expired CHECKPOINT that a CHECKPOINT directly follows: CLAIMs stay';
const rereads = 'Write the decision before deleting, then re-read log and pins; pins and claims re-read the decisions';
const partials = 'PARTIALs above the newest CHECKPOINT are retained';
const seals = 'A SEAL can be reopened by the same pod UID';
const unclearReply = 'An unclear reply is settled by reading the slot';
const rehydrateOrder =
  'Rehydrate: restore without a claim or pin, claim, apply the difference if the base moved, LIST once more, start';
const takesASlot = 'All replica slots held: take one from the holder that was met there, oldest CLAIM first';
const initMarker =
  'The marker: started before the first byte, done after the last LIST; what is done is left alone, what is in memory only for its boot';
const forkPins = "A fork pins the lineage that it lists packs of, and only that one's collector ends the pin";
const compactionDrops =
  'A pack leaves a list only when a pass over the moved trees finds nothing that refers to it; the collector alone deletes';
const children = 'Every interior node has at least 4 children';

const commit = family(commitModel, commitRules);
const faults = family(faultModel, faultRules);
const claim = family(claimModel, claimRules);
const rehydrate = family(rehydrateModel, rehydrateRules);
const init = family(initModel, initRules);
const forks = family(forkPinModel, forkRules);
const compaction = family(compactionModel, compactionRules);
const replicas = family(replicaSlotModel, replicaSlotRules);

const twoPods = { slots: 6, commits: [3, 1], collections: 1 };
const withRestoreAt = { ...twoPods, restoreAt: [1] };
const withSuspects = { ...twoPods, suspects: true };
const withRollBack = { slots: 7, commits: [3, 1], collections: 2, rollBack: [1] };

const commitRuns: readonly Run[] = [
  commit.holds('two pods', twoPods, 56_941, { sentence: claims }),
  commit.holds('two pods, any retention', { ...twoPods, keepsAny: true }, 70_827, { sentence: neverExpire }),
  commit.holds('two pods, restore-at', withRestoreAt, 87_823, { sentence: neverExpire }),
  commit.holds('two pods, suspects', withSuspects, 243_537, { sentence: neverExpire, level: 'check' }),
  commit.holds('two pods, rollback under pins', withRollBack, 290_736, { sentence: rereads, level: 'check' }),
  commit.holds('three claimants', { slots: 5, commits: [1, 1, 0], collections: 1 }, 636_369, {
    sentence: claims,
    level: 'check',
  }),

  commit.control('no second LIST', twoPods, { secondList: false }, 'CLAIM-IN-USED-SLOT', { sentence: claims }),
  commit.control('CLAIMs are trimmed', twoPods, { claimsStay: false }, 'SLOT-REUSED', { sentence: whatIsTrimmed }),
  commit.control("an epoch's last record is trimmed", twoPods, { lastOfEpochStays: false }, 'SLOT-REUSED', {
    sentence: whatIsTrimmed,
  }),
  commit.control('packs of open slots are deleted', twoPods, { packNameHoldsSlot: false }, 'DANGLING', {
    sentence: packName,
  }),
  commit.control('the newest checkpoint expires', twoPods, { neverExpired: 'none' }, 'DANGLING', {
    sentence: neverExpire,
  }),
  commit.control('a suspect counts as the newest', withSuspects, { neverExpired: 'newest' }, 'DANGLING', {
    sentence: neverExpire,
  }),
  commit.control('suspects above it expire', withSuspects, { aboveNewestGoodStays: false }, 'DANGLING', {
    sentence: neverExpire,
  }),
  commit.control("a claim's base expires", withRestoreAt, { claimBaseStays: false }, 'DANGLING', {
    sentence: neverExpire,
  }),
  commit.control('a pin is not re-checked', withRollBack, { pinRereadsDecisions: false }, 'DANGLING', {
    sentence: rereads,
  }),
  commit.control('pins are not re-read', { ...twoPods, rollBack: [1] }, { rereads: 'nothing' }, 'DANGLING', {
    sentence: rereads,
  }),
  commit.control("a claim's base is not re-checked", withRestoreAt, { claimRereadsDecisions: false }, 'DANGLING', {
    sentence: rereads,
  }),
  commit.control('CLAIMs are not re-read', withRestoreAt, { rereads: 'nothing' }, 'DANGLING', { sentence: rereads }),
  commit.control('remembered packs are listed', twoPods, { listsOnlyBaseAndOwn: false }, 'DANGLING', {
    sentence: refusesToCommit,
  }),
];

const killed = { agentRestarts: 1, delayedPuts: 1 };
const killedOnce = { slots: 5, commits: [2, 0], ...killed };

const faultRuns: readonly Run[] = [
  faults.holds('inlined packs', { slots: 6, commits: [3, 1], inlined: true }, 10_358, { sentence: inlinedPack }),
  faults.holds('PARTIAL', { slots: 6, commits: [1, 1], partials: true }, 63_299, { sentence: partials }),
  faults.holds('packs listed before the log', { slots: 6, commits: [3, 1], listsFirst: 'packs' }, 20_417, {
    sentence: packName,
  }),
  faults.holds('init runs again', { slots: 6, commits: [2, 1], initReruns: 1, collections: 0 }, 15_312, {
    sentence: whoMayClaim,
  }),
  faults.holds('init runs again, collection', { slots: 5, commits: [2, 1], initReruns: 1 }, 273_032, {
    sentence: whoMayClaim,
    level: 'check',
  }),
  faults.holds('agent killed, delayed PUT', killedOnce, 373_187, { sentence: ownEpoch, level: 'check' }),
  faults.holds('agent killed, delayed PUT, SEAL reopened', { ...killedOnce, seals: true }, 1_067_903, {
    sentence: seals,
    level: 'check',
  }),
  faults.holds(
    'agent killed, delayed PUT, inlined packs',
    { slots: 5, commits: [2, 1], ...killed, inlined: true },
    683_287,
    {
      sentence: inlinedPack,
      level: 'check',
    },
  ),
  faults.holds('agent killed, PARTIAL', { slots: 5, commits: [1, 1], agentRestarts: 1, partials: true }, 933_431, {
    sentence: partials,
    level: 'check',
  }),
  faults.holds(
    'init runs again, delayed PUT',
    { slots: 5, commits: [1, 1], initReruns: 1, delayedPuts: 1 },
    1_113_178,
    {
      sentence: unclearReply,
      level: 'check',
    },
  ),
  faults.holds('two collectors', { slots: 6, commits: [3, 1], collectors: 2 }, 804_999, {
    sentence: packName,
    level: 'check',
  }),
  faults.holds('two pods, agents killed, delayed PUT', { slots: 5, commits: [2, 1], ...killed }, 2_559_867, {
    sentence: ownEpoch,
    level: 'nightly',
  }),
  faults.holds(
    'two pods, agents killed, SEAL reopened',
    { slots: 5, commits: [2, 1], ...killed, seals: true },
    5_804_619,
    {
      sentence: seals,
      level: 'nightly',
    },
  ),
  faults.holds(
    'two pods, agents killed, inlined packs',
    { slots: 6, commits: [2, 1], ...killed, inlined: true },
    1_098_934,
    {
      sentence: inlinedPack,
      level: 'nightly',
    },
  ),
  faults.holds(
    'two pods, init runs again, delayed',
    { slots: 5, commits: [2, 1], initReruns: 1, delayedPuts: 1 },
    2_886_012,
    {
      sentence: unclearReply,
      level: 'nightly',
    },
  ),
  faults.holds(
    'two pods, agents killed, PARTIAL',
    { slots: 5, commits: [1, 1], ...killed, partials: true },
    8_415_386,
    {
      sentence: partials,
      level: 'nightly',
    },
  ),
  faults.holds('two collectors, delayed PUT', { slots: 5, commits: [2, 1], collectors: 2, delayedPuts: 1 }, 1_293_547, {
    sentence: packName,
    level: 'nightly',
  }),

  faults.control(
    'an inlined pack is trimmed with its record',
    { slots: 6, commits: [3, 0], inlined: true },
    { inlinedRecordIsPack: false },
    'DANGLING',
    { sentence: inlinedPack },
  ),
  faults.control(
    'PARTIALs are not retained',
    { slots: 6, commits: [1, 0], partials: true },
    { partialsStay: false },
    'DANGLING',
    { sentence: partials },
  ),
  faults.control('it is taken for a foreign record', killedOnce, { ownEpochRecord: 'stop' }, 'SELF-FENCED', {
    sentence: ownEpoch,
  }),
  faults.control('it is taken for mine', killedOnce, { ownEpochRecord: 'mine' }, 'ACKNOWLEDGED-REPLACED', {
    sentence: ownEpoch,
  }),
  faults.control(
    'a SEAL ends the epoch',
    { slots: 5, commits: [2, 0], agentRestarts: 1, seals: true },
    { sealIsReopened: false },
    'SELF-FENCED',
    { sentence: seals },
  ),
  faults.control(
    'the next record lists the pack of this slot',
    { slots: 6, commits: [2, 0], ...killed },
    { ownEpochRecord: 'carry' },
    'DANGLING',
    { sentence: refusesToCommit },
  ),
  faults.control(
    'a superseded pod claims again',
    { slots: 6, commits: [2, 1], initReruns: 1, collections: 0 },
    { supersededWaits: false },
    'SUPERSEDED-POD-COMMITS',
    { sentence: whoMayClaim },
  ),
  faults.control(
    'any higher record makes a claim void',
    { slots: 6, commits: [1, 1] },
    { supersededWaits: false, voidOnlyInGap: false },
    'RECLAIM-AFTER-SUPERSEDED',
    { sentence: claims },
  ),
];

const twoPodsOneFails = {
  slots: 6,
  commits: [2, 1],
  initReruns: [0, 1],
  initFailures: [0, 1],
  terminations: [0, 1],
  delayedPuts: 1,
};
const diverges = { sentence: whoMayClaim, ends: ['DIVERGED'] };
const forceDeletes = { sentence: knownToBeGone, ends: ['DIVERGED', 'FORCE-DELETED'] };

const claimRuns: readonly Run[] = [
  claim.holds('two pods', twoPodsOneFails, 109_320, diverges),
  claim.holds('three pods', { slots: 6, commits: [1, 1, 1] }, 29_930, diverges),
  claim.holds('two pods, force-deleted', { ...twoPodsOneFails, forceDeletes: true }, 262_742, {
    ...forceDeletes,
    level: 'check',
  }),
  claim.holds('three pods, force-deleted', { slots: 6, commits: [1, 1, 1], forceDeletes: true }, 195_722, {
    ...forceDeletes,
    level: 'check',
  }),
  claim.holds(
    'three pods, init runs again, delayed PUT',
    { slots: 6, commits: [2, 1, 0], initReruns: [1, 0, 0], delayedPuts: 1 },
    1_494_878,
    { ...diverges, level: 'check' },
  ),
  claim.holds(
    'two pods, both inits run again, agent restarts',
    { ...twoPodsOneFails, slots: 7, initReruns: [1, 1], agentRestarts: [1, 0] },
    2_274_237,
    { ...diverges, level: 'nightly' },
  ),
  claim.holds(
    'three pods, force-deleted, init runs again',
    { slots: 6, commits: [1, 1, 1], initReruns: [1, 1, 0], forceDeletes: true },
    3_904_698,
    { ...forceDeletes, level: 'nightly' },
  ),

  claim.control('any pod claims again', twoPodsOneFails, { superseded: 'always' }, 'RECLAIM-OVER-STARTED-SUCCESSOR', {
    sentence: whoMayClaim,
  }),
  claim.control(
    'a later CHECKPOINT does not count',
    twoPodsOneFails,
    { laterCheckpointBlocks: false },
    'RECLAIM-FOREIGN-BASE',
    { sentence: whoMayClaim },
  ),
  claim.control('a re-claim goes on from memory', twoPodsOneFails, { baseFromLog: false }, 'LOST-CHECKPOINT', {
    sentence: whoMayClaim,
  }),
  claim.control('a SEAL counts as gone', twoPodsOneFails, { sealIsNotGone: false }, 'RECLAIM-OVER-STARTED-SUCCESSOR', {
    sentence: whoMayClaim,
  }),
  claim.control(
    'absence from an older list counts as gone',
    twoPodsOneFails,
    { gone: 'older list' },
    'RECLAIM-OVER-STARTED-SUCCESSOR',
    { sentence: knownToBeGone },
  ),
  claim.ends('no pod claims again: an app stays blocked', twoPodsOneFails, { superseded: 'never' }, 'ALL-BLOCKED', {
    sentence: whoMayClaim,
  }),
  claim.ends(
    'no pod claims again: an app stays unprotected',
    twoPodsOneFails,
    { superseded: 'never' },
    'APP-UNPROTECTED',
    { sentence: whoMayClaim },
  ),
];

const oneSuccessor = { slots: 6, commits: [2, 1], collections: 1 };
const twoSuccessors = { slots: 6, commits: [2, 1, 1], collections: 1 };

const rehydrateRuns: readonly Run[] = [
  rehydrate.holds('one successor, two collections', { slots: 7, commits: [3, 1], collections: 2 }, 25_555, {
    sentence: rehydrateOrder,
  }),
  rehydrate.holds('two successors', twoSuccessors, 140_326, { sentence: rehydrateOrder }),
  rehydrate.holds('two successors, restore-at', { ...twoSuccessors, restoreAt: [1, 2] }, 266_708, {
    sentence: rehydrateOrder,
    level: 'check',
  }),
  rehydrate.holds(
    'two successors, restore-at, two collections',
    { ...twoSuccessors, slots: 7, collections: 2, restoreAt: [1, 2] },
    857_779,
    { sentence: rehydrateOrder, level: 'check' },
  ),

  rehydrate.control('a vanished object ends it', oneSuccessor, { vanishedMeansListAgain: false }, 'GAVE-UP', {
    sentence: rehydrateOrder,
  }),
  rehydrate.control('no second LIST', oneSuccessor, { secondList: false }, 'STALE-START', { sentence: claims }),
  rehydrate.control('no difference is applied', oneSuccessor, { appliesDifference: false }, 'STALE-START', {
    sentence: rehydrateOrder,
  }),
  rehydrate.control('no last LIST', twoSuccessors, { lastList: false }, 'STARTED-SUPERSEDED', {
    sentence: rehydrateOrder,
  }),
  rehydrate.control(
    "a claim's base expires",
    { ...oneSuccessor, restoreAt: [1] },
    { claimBaseStays: false },
    'DANGLING',
    {
      sentence: neverExpire,
    },
  ),
  rehydrate.control(
    "a later collection ignores a claim's base",
    { ...oneSuccessor, collections: 2, restoreAt: [1] },
    { claimBaseOutlivesDecision: false },
    'DANGLING',
    { sentence: neverExpire },
  ),
  rehydrate.control(
    'only the newest CLAIM is re-read',
    { ...twoSuccessors, commits: [2, 1, 0], restoreAt: [1] },
    { rereads: 'pins and newest CLAIM' },
    'DANGLING',
    { sentence: rereads },
  ),
];

const replicaRuns: readonly Run[] = [
  replicas.holds('three pods, two slots', { pods: 3, replicaSlots: 2 }, 6_903, { sentence: replicaSlotFree }),
  replicas.holds('four pods, three slots', { pods: 4, replicaSlots: 3 }, 355_848, {
    sentence: replicaSlotFree,
    level: 'check',
  }),
  replicas.control(
    'absence at admission counts as gone',
    { pods: 2, replicaSlots: 2 },
    { gone: 'absent at admission' },
    'LIVING-HOLDER-FENCED',
    { sentence: replicaSlotFree },
  ),
  replicas.control(
    'a read before the CLAIM counts as gone',
    { pods: 2, replicaSlots: 2 },
    { gone: 'read before the CLAIM' },
    'LIVING-HOLDER-FENCED',
    { sentence: knownToBeGone },
  ),
  replicas.control(
    'my own record counts as taken',
    { pods: 2, replicaSlots: 2 },
    { recognisesOwnRecord: false },
    'HOLDS-TWO',
    { sentence: unclearReply },
  ),
  replicas.holds('three pods take one slot', { pods: 3, replicaSlots: 1, takes: true }, 5_052, {
    sentence: takesASlot,
  }),
  replicas.holds('four pods take two slots', { pods: 4, replicaSlots: 2, takes: true }, 681_216, {
    sentence: takesASlot,
    level: 'check',
  }),
  replicas.control(
    'whoever is there is taken from',
    { pods: 3, replicaSlots: 1, takes: true },
    { takesWhomItMet: false },
    'TOOK-ANOTHER',
    { sentence: takesASlot },
  ),
];

const onDisk = { memory: false, committed: 1, commits: 2, kills: 2, reboots: 1, reruns: 1, losses: 0 };
const inMemory = { ...onDisk, memory: true };
const firstBoot = { ...onDisk, committed: 0 };
const lossy = { ...onDisk, losses: 1 };
const asks = { sentence: initMarker, ends: ['ASKS-A-PERSON'] };

const initRuns: readonly Run[] = [
  init.holds('a volume on disk', onDisk, 682, { sentence: initMarker }),
  init.holds('a volume in memory', inMemory, 698, { sentence: initMarker }),
  init.holds('a first boot', firstBoot, 87, { sentence: initMarker }),
  init.holds('its private directory is lost', lossy, 1_902, asks),
  init.holds('its private directory is lost, in memory', { ...lossy, memory: true }, 2_223, asks),
  init.holds('its private directory is lost, a first boot', { ...lossy, committed: 0 }, 256, asks),
  init.holds('many kills', { ...lossy, commits: 4, kills: 6, reboots: 4, reruns: 4, losses: 2 }, 83_005, asks),

  init.ends('bytes before the marker', onDisk, { startedFirst: false }, 'NEVER-STARTS', { sentence: initMarker }),
  init.control('done before the difference', onDisk, { doneLast: false }, 'STARTED-STALE', { sentence: initMarker }),
  init.control('what is done is restored again', onDisk, { doneIsLeft: false }, 'OVERWRITTEN', {
    sentence: initMarker,
  }),
  init.control('memory is done for ever', inMemory, { memoryNeedsBoot: false }, 'STARTED-EMPTY', {
    sentence: initMarker,
  }),
  init.control('a disk is done for one boot', onDisk, { diskOutlivesBoot: false }, 'OVERWRITTEN', {
    sentence: initMarker,
  }),
  init.control('what is found is written over', lossy, { foundIsKept: false }, 'OVERWRITTEN', { sentence: initMarker }),
  init.control('what is found counts as whole', lossy, { keptIsSuspect: false }, 'STARTED-STALE', {
    sentence: initMarker,
  }),
  init.ends(
    'its own claim makes a first boot missing data',
    firstBoot,
    { firstBootIsRemembered: false },
    'NEVER-STARTS',
    {
      sentence: initMarker,
    },
  ),
  init.control('no difference is applied', onDisk, { appliesDifference: false }, 'STARTED-STALE', {
    sentence: rehydrateOrder,
  }),
];

const oneFork = { commits: 3, forkCommits: 2, collections: 2 };

const forkRuns: readonly Run[] = [
  forks.holds('a fork, two collections', oneFork, 2_625, { sentence: forkPins }),
  forks.holds('a fork, three collections', { commits: 5, forkCommits: 4, collections: 3 }, 71_285, {
    sentence: forkPins,
  }),
  forks.control('a pin has a deadline', oneFork, { pinEnds: 'deadline' }, 'DANGLING', { sentence: forkPins }),
  forks.control('the fork ends its pin', oneFork, { pinEnds: 'tombstone' }, 'DANGLING', { sentence: forkPins }),
  forks.control('a pin ends before the CLAIM', oneFork, { pinWaitsForClaim: false }, 'DANGLING', {
    sentence: forkPins,
  }),
  forks.control('a pin is not re-checked', oneFork, { pinRereadsDecisions: false }, 'DANGLING', { sentence: rereads }),
  forks.control('pins are not re-read', oneFork, { collectorRereadsPins: false }, 'DANGLING', { sentence: rereads }),
];

const oneCompaction = { slots: 4, commits: 3, kills: 1, collections: 1 };
const twoCollections = { ...oneCompaction, collections: 2 };

const compactionRuns: readonly Run[] = [
  compaction.holds('a kill with a record on its way, one collection', oneCompaction, 87_742, {
    sentence: compactionDrops,
  }),
  compaction.holds('a kill with a record on its way, two collections', twoCollections, 250_274, {
    sentence: compactionDrops,
    level: 'check',
  }),
  compaction.holds('four commits, two collections', { slots: 5, commits: 4, kills: 1, collections: 2 }, 4_089_574, {
    sentence: compactionDrops,
    level: 'nightly',
  }),
  compaction.control('a counter drops', oneCompaction, { passDrops: false }, 'UNLISTED', { sentence: compactionDrops }),
  compaction.control('what was moved is kept over a rebase', oneCompaction, { buildsAnew: false }, 'DANGLING', {
    sentence: ownEpoch,
  }),
  compaction.control('only the newest list holds', oneCompaction, { allRetainedHold: false }, 'DANGLING', {
    sentence: compactionDrops,
  }),
  compaction.control('packs of a slot to come are deleted', oneCompaction, { packNameHoldsSlot: false }, 'DANGLING', {
    sentence: packName,
  }),
  compaction.control('what lands in a trimmed slot counts', twoCollections, { expiredForEver: false }, 'DANGLING', {
    sentence: compactionDrops,
  }),
];

const treeRun = (name: string, keys: () => Buffer[], childrenMin: number, expected: Expected): Run => ({
  name,
  sentence: children,
  bounds: `children ${childrenMin}`,
  level: 'quick',
  expected,
  explore: () => treeHeight(keys(), { childrenMin }),
});

const treeRuns: readonly Run[] = [
  treeRun('20,000 usual paths', () => usualKeys(20_000), 4, { verdict: 'complete', states: 20_551, ends: [] }),
  treeRun('2,000 paths of 4,000 bytes', () => longKeys(2000, 4000), 4, {
    verdict: 'complete',
    states: 2_667,
    ends: [],
  }),
  treeRun('nodes with one child', () => longKeys(2000, 4000), 1, { verdict: 'violation', kind: 'NEVER-NARROWS' }),
];

const named = (family: string, runs: readonly Run[]): Run[] =>
  runs.map((run) => ({ ...run, name: `${family}: ${run.name}` }));

export const runs: readonly Run[] = [
  ...named('commit', commitRuns),
  ...named('faults', faultRuns),
  ...named('claim rule', claimRuns),
  ...named('rehydrate', rehydrateRuns),
  ...named('init container', initRuns),
  ...named('fork pins', forkRuns),
  ...named('compaction', compactionRuns),
  ...named('replica slots', replicaRuns),
  ...named('tree height', treeRuns),
];
