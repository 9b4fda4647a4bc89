/** The claim, as soon as the rules let this pod have it, and what came between the choice and the claim. */
import { newestGood } from '../../engine/lineage/base.ts';
import { claimLineage, noteRestored } from '../../engine/lineage/claim.ts';
import { readEpochs } from '../../engine/lineage/epochs.ts';
import type { LineageWriter } from '../../engine/lineage/lineage-writer.ts';
import { LineageLog } from '../../engine/lineage/log.ts';
import { type DomainAccess, domainOf } from '../../engine/lineage/repository.ts';
import { HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import { toSlot } from '../../engine/model/ids.ts';
import type { HolderStore } from '../../engine/ports/holder-store.ts';
import type { Basis, OpenedLog, RehydrateRun } from './rehydrate-run.ts';
import { forkLabels } from './replica-slots.ts';
import { sayWaiting } from './run-receipt.ts';
import { writeVolumes } from './write-volumes.ts';

export interface Claim extends AsyncDisposable {
  readonly writer: LineageWriter;
  readonly access: DomainAccess;
  readonly holder: HolderStore;
}

const supersededMs = 200;
const claimLookMsMin = 500;
const claimLookMsMax = 5000;

/** The replica slot that was picked is another pod's by now. */
export class SlotLost extends Error {
  override readonly name = 'SlotLost';

  constructor(cause: HoldfastError) {
    super(`another pod was faster: ${cause.message}`, { cause });
  }
}

/** E_LINEAGE_HELD after `claimMsMax`, E_DIVERGED, E_STORE_*, E_STATE_DIR. */
export async function claimInTurn(
  run: RehydrateRun,
  { store, repository }: OpenedLog,
  { source, chosen }: Basis,
): Promise<Claim> {
  const { clock, random, liveness, onEvent } = run.ports;
  const { podName, podUid, claimMsMax, slots } = run.settings;
  const lineage = run.lineage;
  const { signal } = run;
  const access = await repository.openOrMakeDomain(domainOf(lineage), { store, clock, random, signal });
  run.access = access;
  const holder = await run.ports.openHolder(repository.id, lineage);
  const log = new LineageLog(store, access, lineage);
  const isFork = run.origin !== lineage;
  const startedMs = clock.monotonicMs();
  try {
    for (let round = 0; ; round++) {
      try {
        const writer = await claimLineage({
          store,
          access,
          lineage,
          holder,
          holderName: podName,
          clock,
          random,
          liveness,
          policy: await claimPolicy(run, log),
          used: run.used,
          ...(run.picked?.holder === undefined ? {} : { take: new Set([run.picked.holder.id]) }),
          restorePending: true,
          labels: { ...run.claimLabels, ...(isFork ? forkLabels(run.origin) : {}) },
          // That of another log is no base here.
          ...(chosen && source !== undefined && !isFork ? { base: source.record } : {}),
          signal,
        });
        run.epoch = writer.epoch;
        onEvent({
          event: 'rehydrate.claimed',
          message: `${podName || podUid} holds ${lineage} since record ${writer.epoch}`,
          details: { epoch: writer.epoch },
        });
        return { writer, access, holder, [Symbol.asyncDispose]: () => holder[Symbol.asyncDispose]() };
      } catch (error) {
        if (!isHoldfastError(error, 'E_LINEAGE_HELD')) throw error;
        // Somebody was faster: another replica slot may be free.
        if (slots?.mode === 'claim' && !run.used) throw new SlotLost(error);
        const waitedMs = clock.monotonicMs() - startedMs;
        if (waitedMs >= claimMsMax) throw held(error);
        if (round === 0)
          await sayWaiting(run, 'rehydrate.held', `${error.message}; waiting until that pod is known to be gone`);
        const ms = Math.min(claimLookMsMin * 1.5 ** round, claimLookMsMax, claimMsMax - waitedMs);
        await clock.wait(ms, { signal });
      }
    }
  } catch (error) {
    await holder[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * A pod identity has one successor at a time, who may claim at once. A replica slot or the only slot of a workload is claimed by whoever comes, and so
 * only when it is free; a pod that has claimed it before goes by the rule for pods.
 */
async function claimPolicy(run: RehydrateRun, log: LineageLog): Promise<'pod' | 'person'> {
  const { slots, podUid: me } = run.settings;
  if (slots === undefined) return 'pod';
  const options = { signal: run.signal };
  const { record } = await log.head(options);
  const epochs = await readEpochs(log, record, { me, lowest: toSlot(0) }, options);
  return epochs.some(({ holder }) => holder === me) ? 'pod' : 'person';
}

/** A good checkpoint came between the choice and the claim: nobody can commit another one now. */
export async function applyDifference(
  run: RehydrateRun,
  opened: OpenedLog,
  basis: Basis,
  { access, holder }: Claim,
): Promise<void> {
  const { store } = opened;
  const { signal } = run;
  const log = new LineageLog(store, access, run.origin);
  const newest = await newestGood(log, (await log.head({ signal })).record, { signal });
  const isNews = newest !== undefined && newest.header.slot > basis.known && basis.goesBack !== true;
  if (isNews && run.targets.length > 0) {
    const { slot } = newest.header;
    run.moved++;
    run.ports.onEvent({
      event: 'rehydrate.moved',
      message: `checkpoint ${slot} came meanwhile; applying the difference`,
      details: { slot, from: basis.source?.record.header.slot ?? null },
    });
    run.policy = { answer: 'data', applied: null, why: 'a good checkpoint was found' };
    await writeVolumes(run, opened, { source: await run.sourceOf(log, access, newest), known: slot, chosen: false });
  }
  const whole = run.survey.every(({ name }) => run.restored.has(name));
  if (whole && run.source !== undefined && run.origin === run.lineage)
    await noteRestored(holder, run.source.record.header.slot);
}

/** E_FENCED when another pod has claimed meanwhile. */
export async function lookOnceMore(run: RehydrateRun, { writer }: Claim): Promise<void> {
  await writer.confirm({ signal: run.signal });
}

/** Another pod was faster; the next attempt begins a moment later. */
export async function noteSuperseded(run: RehydrateRun, error: HoldfastError | SlotLost): Promise<void> {
  run.epoch = undefined;
  run.ports.onEvent({ event: 'rehydrate.superseded', message: error.message });
  await run.ports.clock.wait(supersededMs, { signal: run.signal });
}

function held(error: HoldfastError): HoldfastError {
  return new HoldfastError('E_LINEAGE_HELD', error.message, {
    details: error.details,
    cause: error,
    remedy:
      'That pod has not sealed the lineage and may still be alive. Delete whichever of the two should go; ' +
      'with --service it is known at once that it is gone. The next run of this container looks again.',
  });
}
