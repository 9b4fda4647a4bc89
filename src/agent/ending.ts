/**
 * The end of the agent, from SIGTERM on: is the application gone? the last delta; the seal, or what is not saved.
 *
 * That SIGTERM has come proves nothing of the application: it also comes when the grace is over, when a container is restarted alone,
 * and to all at once outside of Kubernetes. So it is looked up who still uses the volumes; where that cannot be seen, a pass that
 * meets no change and finds no writer decides. As long as grace is left and somebody writes, passes follow one another, and each that
 * found something is committed: whatever happens next, it can be restored.
 */
import { sealLabels } from '../contract/seal-labels.ts';
import type { CaptureOutcome } from '../engine/capture/capture-outcome.ts';
import type { Committed } from '../engine/lineage/lineage-writer.ts';
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Attached } from './attach.ts';
import type { Checkpoints } from './checkpoints.ts';
import { type AgentLog, errorFields } from './log.ts';
import type { AgentParts } from './parts.ts';
import type { AgentState } from './state.ts';

/** Kept of the grace for the seal and for saying what is unsaved. */
const reserveShare = 0.15;
const reserveMsMin = 600;
const reserveMsMax = 2000;
/** The kubelet leaves this much at least between SIGTERM and SIGKILL, also when the grace is over. */
const lastGaspMs = 2000;
const lookAgainMs = 250;

/** The time that is left, told by one signal. */
export class Deadline implements Disposable {
  readonly #cut = new AbortController();
  readonly #done = new AbortController();
  readonly #parts: AgentParts;
  readonly #state: AgentState;
  /** When the process has to be gone, and what is kept of that time. */
  #graceEndsMs = Number.POSITIVE_INFINITY;
  #reserveMs = 0;

  constructor(parts: AgentParts, state: AgentState, onTerminated: () => void) {
    this.#parts = parts;
    this.#state = state;
    const begin = (): void => {
      void this.#run();
      onTerminated();
    };
    if (parts.terminated.aborted) begin();
    else parts.terminated.addEventListener('abort', begin, { once: true });
  }

  /** Fires when what is under way has to be given up, so that there is time to seal. */
  get signal(): AbortSignal {
    return this.#cut.signal;
  }

  /** A signal for work of the time that is kept: it fires when that share of it is over. `done` gives it back. */
  within(share: number): { readonly signal: AbortSignal; readonly done: () => void } {
    const { clock } = this.#parts;
    const over = new AbortController();
    const done = new AbortController();
    const endsMs = this.#graceEndsMs - this.#reserveMs * (1 - share * 0.9);
    clock.wait(Math.max(0, endsMs - clock.monotonicMs()), { signal: done.signal }).then(
      () => over.abort(),
      () => undefined,
    );
    return { signal: over.signal, done: () => done.abort() };
  }

  async #run(): Promise<void> {
    const { clock } = this.#parts;
    const { notifiedMs, settings } = this.#state;
    const nowMs = clock.monotonicMs();
    const reserveMs = Math.min(reserveMsMax, Math.max(reserveMsMin, settings.graceMs * reserveShare));
    this.#reserveMs = Math.min(reserveMs, settings.graceMs / 2);
    // The grace began with the notice. A notice whose grace is over long since was not of this end.
    const sinceMs = notifiedMs !== undefined && nowMs - notifiedMs < settings.graceMs * 2 ? notifiedMs : nowMs;
    this.#graceEndsMs = Math.max(sinceMs + settings.graceMs, nowMs + Math.min(lastGaspMs, settings.graceMs));
    const cutInMs = this.#graceEndsMs - this.#reserveMs - nowMs;
    try {
      await clock.wait(Math.max(0, cutInMs), { signal: this.#done.signal });
      this.#cut.abort();
    } catch {
      // It ended before.
    }
  }

  [Symbol.dispose](): void {
    this.#done.abort();
  }
}

export interface End {
  /** Undefined when the store could not be reached any more. */
  readonly sealed: Committed | undefined;
  readonly consistency: CaptureOutcome['consistency'] | undefined;
  /** Undefined: nothing. */
  readonly unsaved: UnsavedAtEnd | undefined;
  /** What stood in the way. */
  readonly error: HoldfastError | undefined;
}

export interface UnsavedAtEnd {
  /** Null where it could not be counted. */
  readonly bytes: number | null;
  readonly files: number | null;
  readonly seconds: number;
}

export interface EndingParts {
  readonly parts: AgentParts;
  readonly state: AgentState;
  readonly log: AgentLog;
  readonly attached: Attached;
  readonly checkpoints: Checkpoints;
  readonly deadline: Deadline;
}

/** Saves what can be saved, seals, and says what was not saved. Throws E_FENCED. */
export async function end(ending: EndingParts): Promise<End> {
  const { state, log, deadline } = ending;
  const last = await lastDelta(ending);
  const unsaved = last.settled ? undefined : await countUnsaved(ending, last.outcome !== undefined);
  const consistency = last.outcome?.consistency;
  const labels: Record<string, string> = { [sealLabels.consistency]: consistency ?? 'none' };
  if (unsaved !== undefined) {
    if (unsaved.bytes !== null) labels[sealLabels.unsavedBytes] = String(unsaved.bytes);
    if (unsaved.files !== null) labels[sealLabels.unsavedFiles] = String(unsaved.files);
    labels[sealLabels.unsavedSeconds] = unsaved.seconds.toFixed(3);
    log.error('unsaved', { ...unsaved });
  }
  const { signal, done } = deadline.within(1);
  try {
    const sealed = await ending.attached.writer.seal({ signal, labels });
    log.info('sealed', { slot: sealed.slot, consistency: consistency ?? null });
    return { sealed, consistency, unsaved, error: undefined };
  } catch (cause) {
    if (!isHoldfastError(cause) || cause.code === 'E_FENCED') throw cause;
    const error = cause.code === 'E_ABORTED' ? gaveUp(cause) : cause;
    state.problem('store', error);
    log.error('failed', { reason: 'final', ...errorFields(error) });
    return { sealed: undefined, consistency, unsaved: unsaved ?? nothingKnown(state), error };
  } finally {
    done();
  }
}

interface LastDelta {
  readonly outcome: CaptureOutcome | undefined;
  /** Nothing moved any more and nobody was seen who could move it: the checkpoint holds all there is. */
  readonly settled: boolean;
}

async function lastDelta({ parts, state, log, checkpoints, deadline }: EndingParts): Promise<LastDelta> {
  const { volumes } = state.settings;
  const paths = volumes.map(({ source }) => source.path);
  let last: CaptureOutcome | undefined;
  let said = '';
  for (;;) {
    const { users } = parts.users.find(paths);
    const running = users.length > 0;
    const seen = users.map(({ pid, command }) => `${command} (${pid})`).join(', ');
    if (running && said !== seen) log.info('still-used', { by: users.slice(0, 10) });
    said = seen;
    try {
      const final = { stopped: !running };
      const outcome = await checkpoints.take({ reason: 'final', volumes, final, signal: deadline.signal });
      last = outcome ?? last;
      if (outcome !== undefined && !running && isStill(outcome)) return { outcome, settled: true };
      await parts.clock.wait(lookAgainMs, { signal: deadline.signal });
    } catch (error) {
      if (!deadline.signal.aborted) throw error;
      return { outcome: last, settled: false };
    }
  }
}

/** A pass met no change. That a writer cannot be ruled out, as where files belong to another user, says nothing either way. */
function isStill({ consistency, refuted }: CaptureOutcome): boolean {
  return consistency !== 'fuzzy' && refuted?.every(({ reason }) => reason !== 'changed') !== false;
}

async function countUnsaved(
  { state, checkpoints, deadline }: EndingParts,
  captured: boolean,
): Promise<UnsavedAtEnd | undefined> {
  const { signal, done } = deadline.within(0.5);
  try {
    const measured = await checkpoints.measure(signal);
    if (measured === undefined) return nothingKnown(state);
    if (captured && measured.bytes === 0 && measured.files === 0) return undefined;
    return { ...measured, seconds: state.unsavedSeconds };
  } catch (error) {
    if (!signal.aborted) throw error;
    return nothingKnown(state);
  } finally {
    done();
  }
}

/** What the end of an agent leaves that could not even look. */
export function nothingKnown(state: AgentState): UnsavedAtEnd {
  return { bytes: null, files: null, seconds: state.unsavedSeconds };
}

function gaveUp(cause: HoldfastError): HoldfastError {
  return new HoldfastError('E_STORE_UNREACHABLE', 'the store did not answer until the grace was over', { cause });
}
