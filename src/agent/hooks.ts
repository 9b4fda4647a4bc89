/**
 * The application's own hooks around a checkpoint: it makes its files consistent and holds still, and is let go again.
 *
 * Invariant: whoever was asked to hold still is let go, whatever happens to the checkpoint, the agent or the node: a file in the state
 * directory says so from before the question on, and an agent that finds it when it starts lets the application go first.
 */
import { type HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { ApplicationPause } from '../engine/capture/capture-request.ts';
import type { HookCaller } from '../engine/ports/hook-caller.ts';
import type { PrivateFiles } from '../engine/ports/private-files.ts';
import { type AgentLog, errorFields } from './log.ts';
import type { HookSettings } from './settings.ts';
import type { AgentState } from './state.ts';

/** In the state directory: `{"address": …}` while the application may be held, else `null`. */
export const heldFile = 'held.json';

/** An application that cannot be let go at once is asked so often; the next agent asks again. */
const resumeAttemptsMax = 3;

export class Hooks implements ApplicationPause {
  readonly #settings: HookSettings;
  readonly #caller: HookCaller;
  readonly #files: PrivateFiles;
  readonly #state: AgentState;
  readonly #log: AgentLog;
  #asked = false;

  constructor(
    settings: HookSettings,
    parts: { readonly hooks: HookCaller; readonly files: PrivateFiles },
    state: AgentState,
    log: AgentLog,
  ) {
    this.#settings = settings;
    this.#caller = parts.hooks;
    this.#files = parts.files;
    this.#state = state;
    this.#log = log;
  }

  async pause(): Promise<boolean> {
    const { pre, post } = this.#settings;
    if (post !== undefined) {
      // Before the question: an agent that dies now leaves what the next one must do.
      await this.#files.replace(heldFile, `${JSON.stringify({ address: post })}\n`);
    }
    this.#asked = true;
    return pre !== undefined && (await this.#call('pre-checkpoint', pre));
  }

  async resume(): Promise<void> {
    if (!this.#asked) return;
    this.#asked = false;
    const { post } = this.#settings;
    if (post !== undefined) await this.#letGo(post);
  }

  /** Lets go whom an agent that died has left held. */
  async resumeLeftHeld(): Promise<void> {
    const text = await this.#files.read(heldFile);
    if (text === undefined) return;
    const address = addressOf(text);
    if (address === undefined) return;
    this.#log.warn('left-held');
    await this.#letGo(address);
  }

  async #letGo(address: string): Promise<void> {
    for (let attempt = 1; attempt <= resumeAttemptsMax; attempt++) {
      if (!(await this.#call('post-checkpoint', address))) continue;
      await this.#files.replace(heldFile, 'null\n');
      return;
    }
  }

  async #call(hook: 'pre-checkpoint' | 'post-checkpoint', address: string): Promise<boolean> {
    const body = JSON.stringify({ hook, lineage: this.#state.settings.lineage });
    try {
      const status = await this.#caller.call(address, body, this.#settings.waitMs);
      if (status >= 200 && status < 300) {
        this.#state.resolve('hook');
        return true;
      }
      this.#say(hook, `the hook ${hook} answered with ${status}`);
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      this.#say(hook, error.message, error);
    }
    return false;
  }

  #say(hook: string, message: string, error?: HoldfastError): void {
    this.#state.problem('hook', { code: 'W_HOOK', message });
    this.#log.warn('hook-failed', { hook, message, ...(error === undefined ? {} : errorFields(error)) });
  }
}

function addressOf(text: string): string | undefined {
  try {
    const plain = JSON.parse(text) as { address?: unknown } | null;
    return typeof plain?.address === 'string' ? plain.address : undefined;
  } catch {
    return undefined;
  }
}
