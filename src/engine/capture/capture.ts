/**
 * A checkpoint: walk → read → chunk → seal → pack → store → commit.
 *
 *   capture-run.ts      its steps; run-packs.ts and pack-uploads.ts, the packs on their way to the store
 *   volume-pass.ts      one pass over one volume: scan.ts finds what changed, lanes read it, the answers edit the tree
 *   capture-lane.ts     a lane: read-name.ts → read-content.ts → chunker.ts → format/pack.ts, synchronous, for one job at a time
 *
 * Passes over the volumes go on until one of them meets no change: the checkpoint then shows a point in time (`converged`),
 * namely the moment between the last two passes. When the bound is reached first, it is `fuzzy` and names what moved.
 *
 * Invariants: nothing is visible before commit; the scan cache of a checkpoint is bound to that checkpoint's record; a run
 * that is rebased or fails leaves packs without a record, which mean nothing to anybody.
 */
import { fencedOr } from '../lineage/fence.ts';
import { Rebased } from '../lineage/lineage-writer.ts';
import { HoldfastError, invariant } from '../model/errors.ts';
import { FileTreeError } from '../ports/file-tree.ts';
import type { CaptureOutcome, Refutation } from './capture-outcome.ts';
import type {
  ApplicationPause,
  CaptureOptions,
  CapturePorts,
  CaptureSettings,
  CaptureTarget,
} from './capture-request.ts';
import { CaptureRun } from './capture-run.ts';

const rebasesMax = 8;

/**
 * Captures the volumes and commits them as one checkpoint.
 *
 * Throws HoldfastError: E_SOURCE_UNREADABLE when a volume's directory cannot be opened, E_FENCED, E_STORE_*, E_LIMIT, E_ABORTED.
 */
export async function capture(
  ports: CapturePorts,
  settings: CaptureSettings,
  target: CaptureTarget,
  options: CaptureOptions = {},
): Promise<CaptureOutcome> {
  const writer = target.writer;
  invariant(writer === undefined || !writer.restorePending, 'no checkpoint before the restore is complete');
  for (let attempt = 1; ; attempt++) {
    // Only a suspect base is asked about: what was released meanwhile is what this one is compared with.
    await writer?.lookForReleases(options);
    const run = new CaptureRun(ports, settings, target, options, attempt);
    try {
      return await checkpoint(run, settings, options.application);
    } catch (error) {
      await run.abandon();
      if (error instanceof Rebased && attempt < rebasesMax) continue;
      throw captureError(await fencedOr(error, writer, options), attempt, options.signal);
    }
  }
}

/** The steps, in their order. */
async function checkpoint(
  run: CaptureRun,
  { quiesced }: CaptureSettings,
  application: ApplicationPause | undefined,
): Promise<CaptureOutcome> {
  run.openVolumes();
  await run.pass();
  if (!quiesced && run.showsNothingNew('converged')) return run.leave('converged');
  if (!quiesced && application !== undefined && run.mayBeLate) {
    // Nobody is asked to hold still for what turns out to be nothing.
    await run.pass();
    if (run.showsNothingNew('converged')) return run.leave('converged');
  }
  // That the application has stopped is a statement until nothing is found that speaks against it.
  const refuted = quiesced ? await run.findWriters() : undefined;
  const { converged, held } = await converge(run, refuted, application);
  const stopped = converged && (held || refuted?.length === 0);
  const consistency = stopped ? 'quiesced' : converged ? 'converged' : 'fuzzy';
  return run.showsNothingNew(consistency) ? run.leave(consistency, refuted) : run.commit(consistency, refuted);
}

/** Passes until one meets no change or the bounds are reached. `held`: the application held still from before the second on. */
async function converge(
  run: CaptureRun,
  refuted: Refutation[] | undefined,
  application: ApplicationPause | undefined,
): Promise<{ readonly converged: boolean; readonly held: boolean }> {
  let converged = false;
  let held = false;
  try {
    for (let first = true; !converged && run.mayPassAgain(first && application !== undefined, held); first = false) {
      if (first && application !== undefined) held = await application.pause();
      await run.holdDatabases();
      converged = await run.pass();
      if (first && !converged) refuted?.push(...run.changes());
    }
    await run.releaseDatabases();
  } finally {
    await application?.resume();
  }
  return { converged, held };
}

function captureError(error: unknown, attempt: number, signal: AbortSignal | undefined): unknown {
  if (error instanceof Rebased) {
    return new HoldfastError('E_STORE_IO', `the log's next slot was taken ${attempt} times without a successor`, {
      cause: error,
    });
  }
  if (error instanceof FileTreeError) {
    const limit = error.errno === 'EMFILE' || error.errno === 'ENFILE';
    return new HoldfastError(
      limit ? 'E_LIMIT' : 'E_SOURCE_UNREADABLE',
      limit ? 'too many open files' : `a volume cannot be read: ${error.message}`,
      { cause: error },
    );
  }
  if (signal?.aborted === true && !(error instanceof HoldfastError)) {
    return new HoldfastError('E_ABORTED', 'the checkpoint was interrupted', { cause: error });
  }
  return error;
}
