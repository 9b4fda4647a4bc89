/**
 * Takes checkpoints of the set, one after the other, with one writer and one cache: no LIST and no GET while nothing goes wrong,
 * and nothing at all for a set that did not change.
 */
import { capture } from '../engine/capture/capture.ts';
import type { CaptureOutcome } from '../engine/capture/capture-outcome.ts';
import type { CaptureTarget } from '../engine/capture/capture-request.ts';
import { KeptNodes } from '../engine/capture/kept-nodes.ts';
import { measureUnsaved, type Unsaved } from '../engine/capture/measure-unsaved.ts';
import type { CheckpointReason } from '../contract/agent-api.ts';
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Watching } from './watching.ts';
import type { Hooks } from './hooks.ts';
import type { AnchorReports } from './anchor-reports.ts';
import type { Attached } from './attach.ts';
import { type AgentLog, errorFields } from './log.ts';
import type { AgentVolume } from './settings.ts';
import type { AgentState } from './state.ts';

const mebibyte = 1024 * 1024;
/** Looking again costs a walk: it may take this share of the time at most. */
const lookShareMax = 0.05;
const lookAgainMsMin = 1000;
/** What a capture that is interrupted gets for its end. */
const givenUpMs = 100;

export interface TakeRequest {
  readonly reason: CheckpointReason;
  /** Which volumes are looked at; the others are carried forward. */
  readonly volumes: readonly AgentVolume[];
  /** The last of this holder: its application is said to have stopped, unless it was seen to run. */
  readonly final?: { readonly stopped: boolean } | undefined;
  readonly signal: AbortSignal;
}

export interface CheckpointHelpers {
  readonly watching: Watching;
  readonly hooks: Hooks | undefined;
  readonly reports: AnchorReports | undefined;
}

export class Checkpoints {
  readonly #attached: Attached;
  readonly #state: AgentState;
  readonly #log: AgentLog;
  readonly #kept = new KeptNodes();
  readonly #target: CaptureTarget;
  readonly #watching: Watching;
  readonly #hooks: Hooks | undefined;
  readonly #reports: AnchorReports | undefined;
  #busy = false;
  #look: Promise<Unsaved | undefined> | undefined;
  #lookAgainAtMs = 0;

  constructor(attached: Attached, state: AgentState, log: AgentLog, { watching, hooks, reports }: CheckpointHelpers) {
    this.#watching = watching;
    this.#hooks = hooks;
    this.#reports = reports;
    this.#attached = attached;
    this.#state = state;
    this.#log = log;
    const { access, sourceOf } = attached.connection;
    const { repository, domain } = access;
    const { lineage } = state.settings;
    const { writer } = attached;
    this.#target = {
      lineage,
      keys: access.keys,
      packs: { identity: { repository, domain, lineage, epoch: writer.epoch }, dataKey: access.dataKey },
      writer,
      base: undefined,
      sourceOf,
      kept: this.#kept,
    };
  }

  /** Which volumes are not in the newest checkpoint yet: all of them before there is one. */
  get missing(): readonly AgentVolume[] {
    const base = this.#attached.writer.base;
    if (base === undefined || base.record.header.kind !== 'CHECKPOINT') return this.#state.settings.volumes;
    return this.#state.settings.volumes.filter(({ source }) => !base.volumes.some(({ name }) => name === source.name));
  }

  /**
   * Takes one. Undefined when it failed in a way that may pass: the state says how. Throws E_FENCED, and E_ABORTED by the signal.
   */
  async take({ reason, volumes, final, signal }: TakeRequest): Promise<CaptureOutcome | undefined> {
    const { connection, writer } = this.#attached;
    const state = this.#state;
    const { settings } = state;
    const missing = this.missing;
    const taken = settings.volumes.filter((volume) => volumes.includes(volume) || missing.includes(volume));
    this.#busy = true;
    state.captureBegins(reason);
    let outcome: CaptureOutcome | undefined;
    try {
      await this.#look;
      if (!connection.tryCacheAgain()) state.resolve('cache');
      const running = capture(
        connection.capture,
        {
          ...settings.capture,
          // A first checkpoint has much to send; later packs are small, and what they replace is.
          packBytesTarget: (writer.base === undefined ? 64 : 16) * mebibyte,
          volumes: taken.map((volume) => this.#watching.sourceOf(volume)),
          audit: taken.length === settings.volumes.length && this.#watching.auditIsDue(),
          carried: settings.volumes.filter((volume) => !taken.includes(volume)).map(({ source }) => source.name),
          // Going on after a seal, a holder says so at once: else a successor would take the lineage for free.
          commitUnchanged: final === undefined && writer.sealed,
          final: final !== undefined,
          quiesced: final?.stopped ?? false,
          suspect: this.#attached.restoredSuspect && writer.base?.record.header.epoch !== writer.epoch,
          labels: { ...settings.capture.labels, 'holdfast.dev/reason': reason },
        },
        this.#target,
        // An application that was told to stop is not asked to hold still.
        {
          signal,
          application: final === undefined ? this.#hooks : undefined,
          onProgress: (progress) => state.captureGoesOn(progress),
        },
      );
      outcome = await this.#unlessGivenUp(running, signal);
      return outcome;
    } catch (error) {
      // A defect of ours ends the process; the next one begins from what is durable.
      if (isHoldfastError(error, 'E_FENCED', 'E_INTERNAL') || signal.aborted) throw error;
      if (!isHoldfastError(error)) throw error;
      const failure: HoldfastError = error;
      if (failure.code.startsWith('E_STORE_')) state.storeReachable = false;
      state.problem(failure.code.startsWith('E_STORE_') ? 'store' : 'checkpoint', failure);
      this.#log.warn('failed', { reason, ...errorFields(failure) });
      return undefined;
    } finally {
      this.#busy = false;
      const seconds = state.captureEnds(outcome, writer.base);
      if (outcome !== undefined) this.#tell(outcome, reason, seconds);
    }
  }

  /**
   * The capture, or E_ABORTED soon after the signal: worker threads that are deep in a large file end when they come out of it, and the
   * seal does not wait for that. A record that is under way is waited for, since the seal comes after it.
   */
  async #unlessGivenUp(running: Promise<CaptureOutcome>, signal: AbortSignal): Promise<CaptureOutcome> {
    const { clock } = this.#attached.connection.capture;
    const ended = new AbortController();
    const givenUp = aborted(signal, ended.signal).then(async (): Promise<CaptureOutcome> => {
      await clock.wait(givenUpMs, { signal: ended.signal });
      if (this.#state.capture?.phase === 'commit') return await running;
      throw new HoldfastError('E_ABORTED', 'the checkpoint was given up, so that there is time to seal');
    });
    givenUp.catch(() => undefined);
    running.catch(() => undefined);
    try {
      return await Promise.race([running, givenUp]);
    } finally {
      ended.abort();
    }
  }

  #tell(outcome: CaptureOutcome, reason: CheckpointReason, seconds: number): void {
    const { committed, consistency, passes, newBytes, storedBytes, incomplete } = outcome;
    const state = this.#state;
    const missed = outcome.volumes.flatMap((volume) => (volume.missed === undefined ? [] : [volume.missed]));
    const count = missed.reduce((sum, each) => sum + each.count, 0);
    if (count > 0) {
      state.counts.watcherMissed += count;
      this.#log.warn('watcher-missed', { count, names: missed.flatMap(({ names }) => names).slice(0, 5) });
    }
    if (outcome.suspect) state.problem('suspect', { code: 'W_SUSPECT', message: suspicionText(outcome) });
    else state.resolve('suspect');
    if (committed === undefined) {
      this.#log.debug('unchanged', { reason, seconds, consistency });
      return;
    }
    this.#reports?.committed(committed);
    this.#log.info('committed', {
      reason,
      slot: committed.slot,
      consistency,
      passes,
      newBytes,
      storedBytes,
      incomplete,
      suspect: outcome.suspect,
      seconds: Math.round(seconds * 1000) / 1000,
    });
    if (incomplete) {
      const names = outcome.volumes.flatMap(({ skipped }) =>
        skipped.filter((skip) => skip.reason === 'unreadable').flatMap((skip) => skip.names),
      );
      state.problem('files', { code: 'W_INCOMPLETE', message: `cannot be read: ${names.slice(0, 5).join(', ')}` });
    } else state.resolve('files');
    if (consistency === 'fuzzy') {
      const names = outcome.volumes.flatMap(({ fuzzyNames }) => fuzzyNames);
      state.problem('consistency', { code: 'W_FUZZY', message: `moved while read: ${names.slice(0, 5).join(', ')}` });
    } else state.resolve('consistency');
  }

  /**
   * Counts what is unsaved, unless a capture is under way, which knows better, or the last look was a moment ago. What is known is in
   * the state afterwards.
   */
  /** How long after the last look the next one may be, ms. */
  get lookAgainInMs(): number {
    return Math.max(0, this.#lookAgainAtMs - this.#attached.connection.capture.clock.monotonicMs());
  }

  async look(): Promise<void> {
    const { clock } = this.#attached.connection.capture;
    if (this.#busy || clock.monotonicMs() < this.#lookAgainAtMs) return;
    this.#look ??= this.measure();
    await this.#look;
  }

  /** Counts what is unsaved now; undefined where it cannot be told. For when no capture is under way. */
  async measure(signal?: AbortSignal): Promise<Unsaved | undefined> {
    const { connection, writer } = this.#attached;
    const { clock } = connection.capture;
    const startedMs = clock.monotonicMs();
    try {
      const unsaved = await measureUnsaved({
        ports: connection.capture,
        lineage: this.#state.settings.lineage,
        volumes: this.#state.settings.volumes.map(({ source }) => source),
        base: writer.base,
        ...(signal === undefined ? {} : { signal }),
      });
      if (unsaved !== undefined) this.#state.measured(unsaved);
      return unsaved;
    } finally {
      this.#look = undefined;
      const endedMs = clock.monotonicMs();
      this.#lookAgainAtMs = endedMs + Math.max(lookAgainMsMin, (endedMs - startedMs) / lookShareMax);
    }
  }
}

function suspicionText({ suspicions }: CaptureOutcome): string {
  const [first] = suspicions;
  if (first === undefined) return 'the volumes may hold less than there was before';
  const { volume, path, reason, before, now } = first;
  if (reason === 'torn') {
    return `${volume}, ${path}: files of a PostgreSQL cluster moved while they were read; hooks hold it still (docs/consistency.md)`;
  }
  return `${volume}, ${path}: ${now.files} files of ${before.files}, ${now.bytes} bytes of ${before.bytes}`;
}

/** Resolves when the first signal fires; never after the second has. */
function aborted(signal: AbortSignal, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true, signal: ended });
  });
}
