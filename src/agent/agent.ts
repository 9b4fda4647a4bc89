/**
 * The agent of a pod, from its first start to its last signal:
 *
 *   attach       wait for the store, claim the lineage                                     attach.ts
 *   keepSafe     checkpoint when one is due, asked for, or the end is near; sleep          timetable.ts, checkpoints.ts
 *   end          told to stop: is the application gone? the last delta, the seal           ending.ts
 *
 * A successor that took the lineage over ends `keepSafe`, not the agent: it says so, and looks from time to time whether the lineage
 * is its own again. Nothing but SIGTERM, a setting that is wrong, or a history that has split ends the process.
 */
import { agentStatusName, type CheckpointReason } from '../contract/agent-api.ts';
import { receiptFile } from '../contract/state-directory.ts';
import type { CaptureOutcome } from '../engine/capture/capture-outcome.ts';
import type { Committed } from '../engine/lineage/lineage-writer.ts';
import { errorCatalogue, HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { AnchorReports } from './anchor-reports.ts';
import { serveApi } from './api.ts';
import { attach, type Attached } from './attach.ts';
import { Checkpoints } from './checkpoints.ts';
import { Control } from './control.ts';
import { Deadline, type End, end, nothingKnown } from './ending.ts';
import { Hooks } from './hooks.ts';
import { type AgentLog, createLog, errorFields } from './log.ts';
import type { AgentParts } from './parts.ts';
import { tellOfRestore } from './post-restore.ts';
import type { AgentSettings, AgentVolume } from './settings.ts';
import { AgentState } from './state.ts';
import { Timetable } from './timetable.ts';
import { Watching } from './watching.ts';
import { urgencyOf, urgentInMs } from './urgency.ts';

/** Between two passes while the pod is draining: a pause as long as the pass took, this at least. */
const drainPauseMsMin = 500;
/** Between two looks at what is unsaved, while the schedule leaves more time than that. */
const lookMsMin = 15_000;
const reportMsMax = 1000;
const retryMsMin = 1000;
const retryMsMax = 60_000;

/** The exit code: 0 when all was saved and sealed, 3 when something was left unsaved, else that of the error. */
export async function runAgent(parts: AgentParts, settings: AgentSettings): Promise<number> {
  const { clock } = parts;
  const log = createLog((line) => parts.writeLog(line), {
    level: settings.logLevel,
    lineage: settings.lineage,
    podUid: settings.podUid,
  });
  const state = new AgentState(settings, clock);
  const control = new Control(clock, state, log);
  using deadline = new Deadline(parts, state, () => {
    log.info('terminating', { graceSeconds: settings.graceMs / 1000 });
    control.wake.call();
  });
  deadline.signal.addEventListener('abort', () => control.wake.call());
  const run = new AgentRun(parts, state, log, control, deadline);
  const liveness = await parts.openLiveness((message) => log.warn('service-silent', { message }));
  const { residentBytes, token } = parts;
  await using _api = await serveApi(
    { state, control, status: () => run.status(), residentBytes },
    {
      socketPath: settings.socketPath,
      port: settings.port === undefined ? undefined : { number: settings.port, token },
      metricsPort: settings.metricsPort,
    },
  );
  state.receipt = await lastReceipt(parts);
  const hooks = settings.hooks === undefined ? undefined : new Hooks(settings.hooks, parts, state, log);
  await hooks?.resumeLeftHeld();
  await using _telling =
    settings.postRestore === undefined ? undefined : tellOfRestore(settings.postRestore, parts, state, log);
  await using reports =
    parts.anchors === undefined ? undefined : new AnchorReports(parts.anchors, settings.lineage, clock, log);
  run.reports = reports;
  await using watching = await Watching.start(parts, settings, log);
  state.watcherOf = (volume) => watching.watcherOf(volume);
  log.info('started', {
    version: settings.version,
    schedule: settings.schedule,
    objectiveSeconds: settings.objectiveMs / 1000,
    volumes: settings.volumes.map(({ source: { name, path } }) => ({ name, path })),
    memoryClosed: parts.memoryClosed,
  });
  try {
    for (;;) {
      await using attached = await attach({
        parts,
        state,
        log,
        liveness,
        sleep: (ms) => control.wake.sleep(ms),
        signal: deadline.signal,
      });
      const checkpoints = new Checkpoints(attached, state, log, { watching, hooks, reports });
      try {
        await run.keepSafe(checkpoints);
        return await run.end(attached, checkpoints);
      } catch (error) {
        if (!isHoldfastError(error, 'E_FENCED')) throw error;
        await run.fenced(error);
      }
    }
  } catch (error) {
    return await run.failed(error);
  }
}

class AgentRun {
  readonly #parts: AgentParts;
  readonly #state: AgentState;
  readonly #log: AgentLog;
  readonly #control: Control;
  readonly #deadline: Deadline;
  readonly #timetable: Timetable;
  #checkpoints: Checkpoints | undefined;
  reports: AnchorReports | undefined;

  constructor(parts: AgentParts, state: AgentState, log: AgentLog, control: Control, deadline: Deadline) {
    this.#parts = parts;
    this.#state = state;
    this.#log = log;
    this.#control = control;
    this.#deadline = deadline;
    this.#timetable = new Timetable(state.settings, parts.clock, parts.random);
    state.nextInMs = () => this.#timetable.dueInMs();
  }

  async status(): Promise<ReturnType<AgentState['status']>> {
    await this.#checkpoints?.look();
    return this.#state.status();
  }

  /** Until told to stop. Throws E_FENCED. */
  async keepSafe(checkpoints: Checkpoints): Promise<void> {
    const { clock, terminated } = this.#parts;
    const control = this.#control;
    const state = this.#state;
    this.#checkpoints = checkpoints;
    state.fenced = false;
    let failures = 0;
    let notBeforeMs = 0;
    let reason: CheckpointReason | undefined = 'start';
    // An agent that is killed in its first capture leaves what it knew as well.
    await this.#save();
    while (!terminated.aborted) {
      state.enter(control.draining ? 'draining' : 'running');
      if (reason !== undefined) {
        const startedMs = clock.monotonicMs();
        const outcome = await this.#take(checkpoints, reason);
        if (outcome === 'cut') return;
        failures = outcome === undefined ? failures + 1 : 0;
        const tookMs = clock.monotonicMs() - startedMs;
        const pauseMs = failures === 0 ? Math.max(drainPauseMsMin, tookMs) : retryMs(this.#parts, failures);
        notBeforeMs = clock.monotonicMs() + pauseMs;
        // A look that found nothing new leaves nothing to write.
        if (outcome?.committed !== undefined || outcome === undefined) await this.#save();
      }
      const soonMs = Math.max(0, notBeforeMs - clock.monotonicMs());
      const wasDraining = control.draining;
      await control.wake.sleep(this.#sleepMs(failures, soonMs, checkpoints));
      if (wasDraining && !control.draining) this.#log.warn('not-ended');
      if (this.#looks(checkpoints)) await checkpoints.look();
      reason = this.#reasonNow(failures, clock.monotonicMs() >= notBeforeMs);
    }
  }

  /** Between two scheduled looks that lie far apart, what has gathered is counted now and then. */
  #looks(checkpoints: Checkpoints): boolean {
    const { paused, settings } = this.#state;
    if (this.#parts.terminated.aborted || paused || this.#control.draining) return false;
    return this.#timetable.dueInMs() > 0 && checkpoints.lookAgainInMs === 0 && settings.graceMs > 0;
  }

  #sleepMs(failures: number, soonMs: number, checkpoints: Checkpoints): number {
    if (this.#control.draining || failures > 0) return soonMs;
    const { pausedUntilMs } = this.#state;
    const pausedMs = pausedUntilMs - this.#parts.clock.monotonicMs();
    if (pausedMs > 0) return pausedMs;
    const scheduledMs = Math.min(this.#timetable.sleepMs(), Math.max(soonMs, urgentInMs(this.#state)));
    const lookMs = Math.max(lookMsMin, checkpoints.lookAgainInMs);
    return scheduledMs > lookMs ? lookMs : scheduledMs;
  }

  #reasonNow(failures: number, mayAgain: boolean): CheckpointReason | undefined {
    const control = this.#control;
    if (this.#parts.terminated.aborted) return undefined;
    if (control.isTriggered) return 'trigger';
    if (control.draining) return mayAgain ? 'drain' : undefined;
    if (this.#state.paused) return undefined;
    if (failures > 0) return mayAgain ? 'retry' : undefined;
    if (this.#timetable.due().length > 0) return 'schedule';
    return mayAgain ? urgencyOf(this.#state) : undefined;
  }

  /** `cut`: the time of the end was over before it was done. */
  async #take(checkpoints: Checkpoints, reason: CheckpointReason): Promise<CaptureOutcome | 'cut' | undefined> {
    const state = this.#state;
    const answer = this.#control.takeTrigger();
    const volumes: readonly AgentVolume[] = reason === 'schedule' ? this.#timetable.due() : state.settings.volumes;
    let outcome: CaptureOutcome | undefined;
    try {
      outcome = await checkpoints.take({ reason, volumes, signal: this.#deadline.signal });
      this.#timetable.taken(volumes);
      return outcome;
    } catch (error) {
      if (!this.#deadline.signal.aborted || isHoldfastError(error, 'E_FENCED')) throw error;
      return 'cut';
    } finally {
      answer?.({
        outcome: outcome === undefined ? 'failed' : outcome.committed === undefined ? 'unchanged' : 'committed',
        newest: state.newest ?? null,
      });
    }
  }

  /** Told to stop: the exit code. Throws E_FENCED. */
  async end(attached: Attached, checkpoints: Checkpoints): Promise<number> {
    this.#state.enter('ending');
    const { sealed, consistency, unsaved, error }: End = await end({
      parts: this.#parts,
      state: this.#state,
      log: this.#log,
      attached,
      checkpoints,
      deadline: this.#deadline,
    });
    if (sealed !== undefined) await this.#reportSeal(sealed);
    const code =
      sealed === undefined ? (error?.exit ?? 70) : unsaved === undefined ? 0 : errorCatalogue.E_INCOMPLETE.exit;
    const seal =
      sealed === undefined ? 'not sealed' : `sealed at slot ${sealed.slot}, ${consistency ?? 'nothing committed'}`;
    return await this.#leave(
      code,
      unsaved === undefined ? `${seal}; nothing unsaved` : `${seal}; ${lossText(unsaved)}`,
      error,
    );
  }

  /** The seal is durable, and nobody waits for this but the process itself, for a moment. */
  async #reportSeal({ slot, digest }: Committed): Promise<void> {
    const { reports } = this;
    if (reports === undefined) return;
    reports.committed({ slot, digest });
    const late = new AbortController();
    const told = new AbortController();
    const { signal, done } = this.#deadline.within(1);
    this.#parts.clock.wait(reportMsMax, { signal: told.signal }).then(
      () => late.abort(),
      () => undefined,
    );
    await reports.settle(AbortSignal.any([signal, late.signal]));
    told.abort();
    done();
  }

  /** A successor has the lineage. */
  async fenced(error: HoldfastError): Promise<void> {
    const state = this.#state;
    this.#checkpoints = undefined;
    state.fenced = true;
    state.counts.fenced++;
    state.enter('fenced');
    state.problem('lineage', error);
    this.#log.error('fenced', errorFields(error));
    await this.#save();
  }

  /** What no waiting cures, or the end of the time while the store was waited for: the exit code. */
  async failed(error: unknown): Promise<number> {
    const state = this.#state;
    const { terminated } = this.#parts;
    if (!terminated.aborted || !isHoldfastError(error, 'E_ABORTED')) {
      this.#log.error('failed', errorFields(error));
      const failure = isHoldfastError(error) ? error : new HoldfastError('E_INTERNAL', String(error), { cause: error });
      state.problem('lineage', failure);
      return await this.#leave(failure.exit, `${failure.code}: ${failure.message}. ${failure.remedy}`, failure);
    }
    if (state.fenced || state.phase === 'waiting') {
      const exit = state.fenced ? errorCatalogue.E_FENCED.exit : errorCatalogue.E_LINEAGE_HELD.exit;
      return await this.#leave(
        exit,
        'the lineage is held by another; nothing of this agent was left to save',
        undefined,
      );
    }
    const unsaved = nothingKnown(state);
    this.#log.error('unsaved', { ...unsaved });
    const exit = errorCatalogue.E_STORE_UNREACHABLE.exit;
    return await this.#leave(exit, `the store never answered; ${lossText(unsaved)}`, undefined);
  }

  async #leave(code: number, text: string, error: HoldfastError | undefined): Promise<number> {
    this.#state.enter('ended');
    await this.#save();
    this.#log.info('ended', { exit: code, text });
    const why = error === undefined || text.includes(error.code) ? '' : ` (${error.code}: ${error.message})`;
    this.#parts.writeTerminationMessage(`holdfast agent: ${text}${why}\n`);
    return code;
  }

  /** For those who look when nobody answers any more. That it cannot be written stops nothing. */
  async #save(): Promise<void> {
    try {
      await this.#parts.files.replace(agentStatusName, `${JSON.stringify(this.#state.status())}\n`);
    } catch (error) {
      if (!isHoldfastError(error, 'E_STATE_DIR')) throw error;
      this.#state.problem('cache', { code: 'W_CACHE', message: error.message });
    }
  }
}

/** What the init container left of its restore; null where there was none, or nothing that can be read. */
async function lastReceipt({ files }: AgentParts): Promise<unknown> {
  try {
    return JSON.parse((await files.read(receiptFile)) ?? 'null');
  } catch {
    return null;
  }
}

function lossText({ bytes, files, seconds }: { bytes: number | null; files: number | null; seconds: number }): string {
  const age = `the newest checkpoint holds everything up to ${seconds.toFixed(1)} s ago`;
  return bytes === null
    ? `NOT SAVED: an unknown amount; ${age}`
    : `NOT SAVED: ${bytes} bytes in ${files} files; ${age}`;
}

function retryMs({ random }: AgentParts, failures: number): number {
  const ms = Math.min(retryMsMax, retryMsMin * 2 ** (failures - 1));
  return ms * (0.5 + (random.bytes(1)[0] ?? 0) / 256);
}
