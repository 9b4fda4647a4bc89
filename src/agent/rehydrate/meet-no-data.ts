/** What follows an error of an attempt: there is no data to begin with, and a policy says what then. */
import { newestGood } from '../../engine/lineage/base.ts';
import { type HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import { recordIdText } from '../../engine/model/ids.ts';
import { answerOf, blocked, defaultPolicies, describeAnswer, nextStep } from './data-policy.ts';
import { openLineage } from './open-lineage.ts';
import type { Plan, RehydrateRun } from './rehydrate-run.ts';
import { sayWaiting } from './run-receipt.ts';

/** What follows an error of an attempt: waits as its policy says, and answers what to try next; throws what no policy lets pass. */
export async function meetNoData(run: RehydrateRun, error: unknown, plan: Plan): Promise<Plan> {
  const { clock } = run.ports;
  const { signal } = run;
  const answer = answerOf(error);
  if (answer === undefined || signal.aborted) throw error;
  const failure = error as HoldfastError;
  const given = run.settings.policies[answer];
  const goesBack = run.goesBack && (answer === 'missing' || given.act === 'older');
  if (!goesBack && isHoldfastError(error, 'E_DAMAGED', 'E_HOSTILE') && (await baseMoved(run))) {
    run.moved++;
    return { kind: 'newest' };
  }
  if (run.attempted !== undefined) run.unusable.add(recordIdText(run.attempted.header.id));
  if (plan.kind === 'older' && run.attempted === undefined) run.olderTried = true;
  const hadCandidate = plan.kind === 'older' && run.attempted !== undefined;
  run.attempted = undefined;
  // Who asked for a checkpoint gets that one, or nothing starts.
  const policy = goesBack && given.act !== 'block' ? defaultPolicies[answer] : given;
  const nowMs = clock.monotonicMs();
  const sinceMs = run.sinceMs.get(answer) ?? (answer === 'unreachable' ? run.openedMs : nowMs);
  run.sinceMs.set(answer, sinceMs);
  const next = nextStep(policy, nowMs - sinceMs, run.olderTried && !hadCandidate);
  const why = `${describeAnswer(answer)} (${failure.code}: ${failure.message})`;
  run.policy = { answer, applied: policy.text, why };
  if (next.step === 'give-up') throw blocked(answer, policy, run.lineage, failure);
  if (next.step === 'empty') {
    run.warn(`${why}; --on-${answer} ${policy.text}`);
    if (answer === 'missing') run.suspect = true;
    return { kind: 'empty', why: answer };
  }
  if (next.step === 'older' && policy.act === 'older') {
    return { kind: 'older', ageMsMax: policy.ageMsMax, why: answer };
  }
  if (!run.said.has(answer)) {
    run.said.add(answer);
    await sayWaiting(run, 'rehydrate.no-data', `${why}; nothing starts until that has changed (${policy.text})`);
  }
  await clock.wait(next.step === 'wait' ? next.ms : 0, { signal });
  return { kind: 'newest' };
}

/** An object may be gone because a newer checkpoint has come and the older one was collected. */
async function baseMoved(run: RehydrateRun): Promise<boolean> {
  const tried = run.attempted;
  if (tried === undefined) return false;
  try {
    const { log } = await openLineage(run);
    const waiting = { signal: run.signal };
    const newest = log && (await newestGood(log, (await log.head(waiting)).record, waiting));
    return newest !== undefined && newest.header.slot > tried.header.slot;
  } catch {
    return false;
  }
}
