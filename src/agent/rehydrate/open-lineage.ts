/** The store, the repository, the keys and the log of a lineage, and the wait for whoever still holds it. */
import { openLog } from '../../engine/lineage/open-log.ts';
import type { Repository } from '../../engine/lineage/repository.ts';
import { isHoldfastError } from '../../engine/model/errors.ts';
import type { ObjectWriter } from '../../engine/ports/object-store.ts';
import { waitForSeal, waitForSlot } from './handoff.ts';
import type { OpenedLog, RehydrateRun } from './rehydrate-run.ts';
import { pickSlot } from './replica-slots.ts';
import { within } from './within.ts';

/** Store, repository, keys and log. E_STORE_*, E_REPOSITORY_MISSING, E_KEY_*; E_EXPECTED_MISSING without the keys of records. */
export async function openLineage(run: RehydrateRun): Promise<OpenedLog> {
  const { clock } = run.ports;
  const policy = run.settings.policies.unreachable;
  const deadlineMs = policy.act === 'block' ? policy.deadlineMs : undefined;
  run.openedMs = clock.monotonicMs();
  const since = run.sinceMs.get('unreachable') ?? run.openedMs;
  return await within(
    clock,
    deadlineMs === undefined ? undefined : deadlineMs - (run.openedMs - since),
    run.signal,
    (signal) => openWithin(run, signal),
  );
}

async function openWithin(run: RehydrateRun, signal: AbortSignal): Promise<OpenedLog> {
  run.store ??= await run.ports.openStore();
  const store = run.store;
  run.repository ??= await run.ports.openRepository(store, signal);
  const repository = run.repository;
  if (repository.unfenced) {
    run.warn('UNFENCED: this store does not refuse to overwrite, so two pods are not told apart');
  }
  await orNothing(() => pickOf(run, store, repository, signal));
  // Before the log is read: what is committed after the answer is not missed.
  await askForAnchor(run, signal);
  const opened = await orNothing(() => openLog(store, repository, run.origin, { signal }));
  if (opened === undefined) return { store, repository, access: undefined, log: undefined };
  run.access = opened.access;
  return { store, repository, ...opened };
}

/** Undefined where there are no keys, since nothing was ever stored in the domain. */
async function orNothing<Result>(work: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!isHoldfastError(error, 'E_NOT_FOUND')) throw error;
    return undefined;
  }
}

/** Once for each look at the store; what was given by whoever started this container is not asked for. */
async function askForAnchor(run: RehydrateRun, signal: AbortSignal): Promise<void> {
  const { anchors } = run.ports;
  if (run.settings.expect !== undefined || anchors === undefined) return;
  const look = `${run.origin} ${run.openedMs}`;
  if (run.askedForAnchor === look) return;
  run.expect = await anchors.find(run.origin, { signal });
  run.askedForAnchor = look;
}

/** Of numbered replica slots, which one; a pod whose application has data stays with the one that it had. */
async function pickOf(
  run: RehydrateRun,
  store: ObjectWriter,
  repository: Repository,
  signal: AbortSignal,
): Promise<void> {
  const { slots, lineage: workload, podUid: me } = run.settings;
  if (slots?.mode !== 'claim' || run.used) return;
  const access = await repository.openDomain(workload, { signal });
  const preferred = run.marked.size > 0 || run.picked !== undefined ? run.lineage : undefined;
  const { liveness } = run.ports;
  const { replicas } = slots;
  const { slot, fork } = await pickSlot({ store, access, workload, replicas, me, preferred, liveness, signal });
  if (slot.lineage !== run.lineage || run.picked === undefined) {
    const what = slots.whenHeld === 'fork' ? 'a fork is to be made of' : 'what is to be taken is';
    run.ports.onEvent({
      event: 'rehydrate.slot',
      message:
        slot.holder === undefined
          ? `replica slot ${slot.lineage} is free`
          : `all ${replicas} replica slots are held; ${what} ${slot.lineage} of ${slot.holder.name}`,
      details: { lineage: slot.lineage, holder: slot.holder?.id ?? null },
    });
  }
  run.picked = slot;
  run.fork = fork;
  run.lineage = slot.lineage;
  if (run.handoffDone) forkIfHeld(run);
}

/** Who waited in vain for a slot begins one of its own, where that was asked for: behind the numbered ones, from the newest checkpoint of the one it waited for. */
function forkIfHeld(run: RehydrateRun): void {
  const { picked, fork } = run;
  if (picked?.holder === undefined || fork === undefined || run.settings.slots?.whenHeld !== 'fork') return;
  run.ports.onEvent({
    event: 'rehydrate.slot',
    message: `${fork} is a fork of ${picked.lineage}, whose holder ${picked.holder.name} goes on`,
    details: { lineage: fork, origin: picked.origin },
  });
  run.picked = { lineage: fork, origin: picked.origin, holder: undefined };
  run.lineage = fork;
}

/** The log, perhaps of another replica slot, since one may get free meanwhile. */
export async function waitForHandoff(run: RehydrateRun, opened: OpenedLog): Promise<OpenedLog> {
  if (run.handoffDone || opened.log === undefined || run.settings.slots?.mode === 'seed') return opened;
  const { liveness, clock, onEvent } = run.ports;
  const { podUid: me, handoffMsMax: waitMsMax } = run.settings;
  const { signal } = run;
  let found = opened;
  if (run.settings.slots?.mode === 'claim') {
    run.handoff = await waitForSlot({
      waitMsMax,
      clock,
      onEvent,
      signal,
      holder: () => run.picked?.holder?.name,
      look: async () => {
        found = await openWithin(run, signal);
      },
    });
  } else {
    run.handoff = await waitForSeal({ log: opened.log, me, waitMsMax, liveness, clock, onEvent, signal });
  }
  // Once: who is here after that is met by the rule for claims.
  run.handoffDone = true;
  forkIfHeld(run);
  if (run.handoff?.outcome === 'timeout') {
    run.warn(`${run.handoff.predecessor} did not seal; its newest checkpoint is taken as it stands`);
  }
  return found;
}
