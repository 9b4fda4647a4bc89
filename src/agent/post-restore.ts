/**
 * The application's hook after a restore: as soon as it listens, it is told once that its volumes were brought back.
 *
 * Invariant: a restore counts as told only when a file in the state directory says so, which is after the answer. An agent that dies
 * in between leaves it to the next one, so what the application does in answer has to bear being done twice.
 */
import { markerFile, parseMarker, type RehydrateMarker } from '../contract/state-directory.ts';
import { isHoldfastError } from '../engine/model/errors.ts';
import type { Slot } from '../engine/model/ids.ts';
import type { HookCaller } from '../engine/ports/hook-caller.ts';
import { type AgentLog, errorFields } from './log.ts';
import type { AgentParts } from './parts.ts';
import type { PostRestoreSettings } from './settings.ts';
import type { AgentState } from './state.ts';

/** In the state directory: which restore the application was told of, and how that ended. */
export const toldFile = 'post-restore.json';

/** One that answers and refuses, or takes too long, is asked so often. One that does not listen yet has not been asked. */
const answersMax = 3;
const lookMsMin = 250;
const lookMsMax = 5000;
const restoreLookMs = 1000;

interface Restore {
  /** Differs from one restore of the pod to the next. */
  readonly id: string;
  readonly slot: Slot;
  readonly volumes: readonly string[];
}

/** Tells it in the background, until it is told or disposed of. */
export function tellOfRestore(
  settings: PostRestoreSettings,
  parts: Pick<AgentParts, 'clock' | 'files' | 'hooks' | 'terminated'>,
  state: AgentState,
  log: AgentLog,
): AsyncDisposable {
  const ended = new AbortController();
  const signal = AbortSignal.any([ended.signal, parts.terminated]);
  const telling = new PostRestore(settings, parts, state, log, signal).run();
  return {
    async [Symbol.asyncDispose]() {
      ended.abort();
      await telling;
    },
  };
}

class PostRestore {
  readonly #settings: PostRestoreSettings;
  readonly #parts: Pick<AgentParts, 'clock' | 'files' | 'hooks'>;
  readonly #state: AgentState;
  readonly #log: AgentLog;
  readonly #signal: AbortSignal;

  constructor(
    settings: PostRestoreSettings,
    parts: Pick<AgentParts, 'clock' | 'files' | 'hooks'>,
    state: AgentState,
    log: AgentLog,
    signal: AbortSignal,
  ) {
    this.#settings = settings;
    this.#parts = parts;
    this.#state = state;
    this.#log = log;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    try {
      const restore = await this.#restore();
      if (restore !== undefined && !(await this.#isTold(restore))) await this.#tell(restore);
    } catch (error) {
      if (this.#signal.aborted) return;
      // Nothing that is saved depends on it.
      this.#problem(error instanceof Error ? error.message : String(error), error);
    }
  }

  /** The restore that this pod began with, once it is complete; undefined where nothing was restored. */
  async #restore(): Promise<Restore | undefined> {
    for (;;) {
      const text = await this.#parts.files.read(markerFile);
      const marker = text === undefined ? undefined : parseMarker(text);
      if (marker === undefined || marker.podUid !== this.#state.settings.podUid) return undefined;
      if (marker.phase === 'done') return restoreOf(marker);
      await this.#parts.clock.wait(restoreLookMs, { signal: this.#signal });
    }
  }

  async #isTold({ id }: Restore): Promise<boolean> {
    const text = await this.#parts.files.read(toldFile);
    try {
      return text !== undefined && (JSON.parse(text) as { restore?: unknown } | null)?.restore === id;
    } catch {
      return false;
    }
  }

  async #tell(restore: Restore): Promise<void> {
    const { clock } = this.#parts;
    const startedMs = clock.monotonicMs();
    let answers = 0;
    let said = false;
    for (let round = 0; ; round++) {
      const { outcome, message, error } = await this.#ask(restore);
      if (outcome === 'told') {
        await this.#note(restore, 'told');
        this.#state.resolve('post-restore');
        this.#log.info('told-restored', { slot: restore.slot, volumes: restore.volumes });
        return;
      }
      if (outcome === 'refused') answers++;
      // An application that is only starting is no problem yet.
      const late = clock.monotonicMs() - startedMs >= this.#settings.waitMs;
      if (outcome === 'refused' || (late && !said)) {
        said = true;
        this.#problem(message, error);
      }
      if (answers >= answersMax) {
        await this.#note(restore, 'refused');
        return;
      }
      await clock.wait(Math.min(lookMsMin * 1.5 ** round, lookMsMax), { signal: this.#signal });
    }
  }

  async #ask({ slot, volumes }: Restore): Promise<{
    readonly outcome: 'told' | 'refused' | 'silent';
    readonly message: string;
    readonly error?: unknown;
  }> {
    const { address, waitMs } = this.#settings;
    const hooks: HookCaller = this.#parts.hooks;
    const body = JSON.stringify({ hook: 'post-restore', lineage: this.#state.settings.lineage, slot, volumes });
    try {
      const status = await hooks.call(address, body, waitMs, { signal: this.#signal });
      const outcome = status >= 200 && status < 300 ? 'told' : 'refused';
      return { outcome, message: `the hook post-restore answered with ${status}` };
    } catch (error) {
      if (this.#signal.aborted || !isHoldfastError(error)) throw error;
      return { outcome: error.code === 'E_ABORTED' ? 'refused' : 'silent', message: error.message, error };
    }
  }

  async #note({ id, slot }: Restore, outcome: 'told' | 'refused'): Promise<void> {
    const at = new Date(this.#parts.clock.nowMs()).toISOString();
    await this.#parts.files.replace(toldFile, `${JSON.stringify({ restore: id, slot, outcome, at })}\n`);
  }

  #problem(message: string, error: unknown): void {
    this.#state.problem('post-restore', { code: 'W_HOOK', message });
    this.#log.warn('hook-failed', {
      hook: 'post-restore',
      message,
      ...(error === undefined ? {} : errorFields(error)),
    });
  }
}

function restoreOf({ volumes }: RehydrateMarker): Restore | undefined {
  const restored = [...volumes].flatMap(([name, { bootId, from }]) =>
    from.kind === 'checkpoint' ? [{ name, bootId, slot: from.slot, id: from.id }] : [],
  );
  const [first] = restored;
  if (first === undefined) return undefined;
  return {
    // Of volumes in memory the same checkpoint may be restored once more, in another boot.
    id: restored.map(({ name, bootId, id }) => `${name}:${bootId}:${id}`).join(' '),
    slot: first.slot,
    volumes: restored.map(({ name }) => name),
  };
}
