/** What the volumes are to begin with: the newest good checkpoint, an older one, nothing, or what stands in them. */
import type { LogRecord } from '../../engine/format/record.ts';
import { readEpochs } from '../../engine/lineage/epochs.ts';
import type { LineageLog } from '../../engine/lineage/log.ts';
import { anchorRemedy, resolveCheckpoint } from '../../engine/lineage/resolve.ts';
import { HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import { recordIdText, toSlot } from '../../engine/model/ids.ts';
import type { Basis, OpenedLog, Plan, RehydrateRun } from './rehydrate-run.ts';
import { checkpointToGoBackTo, forgetGoingBack } from './restore-at.ts';

/** What to restore. E_NOT_FOUND: nothing was ever stored. E_EXPECTED_MISSING, E_DAMAGED; E_TARGET_NOT_EMPTY. */
export async function chooseBasis(run: RehydrateRun, { log, access }: OpenedLog, plan: Plan): Promise<Basis> {
  const { signal } = run;
  const head = (await log?.head({ signal }))?.record;
  const known = head?.header.slot ?? toSlot(0);
  forgetGoingBack(run);
  await judgeFound(run, log, head);
  if (run.targets.length === 0 || plan.kind === 'empty' || log === undefined || access === undefined) {
    if (plan.kind !== 'empty' && run.targets.length > 0) throw nothingStored(run);
    return { source: undefined, known, chosen: plan.kind === 'empty' };
  }
  // A store that could not be reached says nothing about what was asked for.
  const mayGoBack = plan.kind === 'newest' || plan.why === 'unreachable';
  const asked = mayGoBack ? await checkpointToGoBackTo(run, log, head) : undefined;
  if (asked !== undefined) {
    run.goesBack = true;
    return { source: await run.sourceOf(log, access, asked), known, chosen: true, goesBack: true };
  }
  const record = plan.kind === 'older' ? await olderThan(run, log, plan) : await newestOf(run, log, head);
  const source = await run.sourceOf(log, access, record);
  return plan.kind === 'older' ? { source, known, chosen: true } : { source, known: record.header.slot, chosen: false };
}

function nothingStored(run: RehydrateRun): HoldfastError {
  const { expect } = run;
  const lineage = run.origin;
  return expect === undefined
    ? new HoldfastError('E_NOT_FOUND', `nothing was ever stored under ${lineage}`)
    : new HoldfastError(
        'E_EXPECTED_MISSING',
        `${lineage}: record ${expect.slot} was committed, the store shows nothing`,
        { remedy: anchorRemedy },
      );
}

async function newestOf(run: RehydrateRun, log: LineageLog, head: LogRecord | undefined): Promise<LogRecord> {
  const { signal } = run;
  const { expect } = run;
  const { podUid } = run.settings;
  try {
    return await resolveCheckpoint(
      log,
      { by: 'latest', back: 0 },
      {
        expect,
        signal,
        onPassed: ({ slot, reason, detail }) => run.warn(`record ${slot} does not count: ${reason}: ${detail}`),
      },
    );
  } catch (error) {
    // A first boot that was interrupted after its claim is still one.
    const decided = [...run.marked.values()].some(({ from }) => from.kind === 'empty' && from.why === 'first-boot');
    if (!isHoldfastError(error, 'E_EXPECTED_MISSING') || !decided || expect !== undefined) throw error;
    const epochs = await readEpochs(log, head, { me: podUid, lowest: toSlot(0) }, { signal });
    const [mine] = epochs;
    const first = (await log.newest({ signal, wanted: ({ header }) => header.holder !== podUid })) === undefined;
    if (!first || mine?.holder !== podUid || mine.committed > 0) throw error;
    throw new HoldfastError('E_NOT_FOUND', `nothing but this pod's own claim was ever stored under ${log.lineage}`);
  }
}

async function olderThan(
  run: RehydrateRun,
  log: LineageLog,
  plan: Extract<Plan, { kind: 'older' }>,
): Promise<LogRecord> {
  const oldestMs = run.startedAtMs - plan.ageMsMax;
  const waiting = { signal: run.signal };
  let found: LogRecord | undefined;
  for await (const record of log.records(waiting)) {
    if (run.unusable.has(recordIdText(record.header.id)) || !(await log.isGood(record, waiting))) continue;
    found = record;
    break;
  }
  if (found === undefined || found.header.timeMs < oldestMs) {
    run.olderTried = true;
    throw new HoldfastError('E_EXPECTED_MISSING', `${log.lineage} has no older checkpoint that the policy allows`);
  }
  return found;
}

/**
 * What stands in a volume without a marker. Of a pod that has claimed, it is its data, perhaps half restored: it is kept, and its first
 * checkpoint is suspect. Where nothing was ever stored, somebody has prepared it. Else nobody knows whose it is.
 */
async function judgeFound(run: RehydrateRun, log: LineageLog | undefined, head: LogRecord | undefined): Promise<void> {
  const found = run.survey.filter(({ name, state }) => state === 'found' && !run.origins.has(name));
  if (found.length === 0) return;
  const { podUid } = run.settings;
  const options = { signal: run.signal };
  const epochs = log === undefined ? [] : await readEpochs(log, head, { me: podUid, lowest: toSlot(0) }, options);
  const mine = epochs.some(({ holder }) => holder === podUid);
  if (!mine && epochs.length > 0) {
    const [{ name, path } = { name: '', path: '' }] = found;
    throw new HoldfastError('E_TARGET_NOT_EMPTY', `volume ${name} (${path}) holds data that no marker tells of`, {
      details: { volume: name, path },
      remedy: 'Nothing was written over it. Empty the volume, or let the pod begin anew with an empty one.',
    });
  }
  for (const { name } of found) run.origins.set(name, { kind: 'kept' });
  if (!mine) return;
  run.suspect = true;
  run.warn('the marker is gone and the volumes are not empty: they are kept, and the first checkpoint is suspect');
}
