/** Asks Holdfast's service in the cluster whether a pod is gone. See contract/gone-question.ts. */
import {
  type GoneQuestion,
  gonePath,
  type PodState,
  printGoneQuestion,
  readGoneAnswer,
} from '../../contract/gone-question.ts';
import { toHex } from '../../engine/model/bytes.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { HolderId } from '../../engine/model/ids.ts';
import type { Liveness } from '../../engine/ports/liveness.ts';
import type { RandomSource } from '../../engine/ports/random.ts';
import { openServiceConnection, type ServiceConnection, type ServiceOptions } from './service-connection.ts';

export interface GoneServiceOptions extends ServiceOptions {
  readonly random: RandomSource;
  /** Told why there is no answer; once until there is one again. */
  readonly onSilent: (reason: string) => void;
}

/** One that takes so long is not asked again for a while: a pod may have many others to ask about, and each would be waited for. */
const slowMs = 2000;
const askAgainMs = 30_000;

/** E_USAGE when the address is none. */
export function openGoneService(options: GoneServiceOptions): GoneService {
  return new GoneService(options, openServiceConnection(options));
}

export class GoneService implements Liveness {
  readonly #options: GoneServiceOptions;
  readonly #service: ServiceConnection;
  #silent = false;
  #askAgainAt = 0;

  constructor(options: GoneServiceOptions, service: ServiceConnection) {
    this.#options = options;
    this.#service = service;
  }

  async isGone(
    holder: HolderId,
    options: { readonly name?: string; readonly signal?: AbortSignal } = {},
  ): Promise<'gone' | 'ending' | 'unknown'> {
    const state = await this.stateOf(holder, options);
    return state === 'terminating' ? 'ending' : state === 'gone' ? 'gone' : 'unknown';
  }

  /** Never rejects but with E_ABORTED: no answer is `unknown`. */
  async stateOf(
    holder: HolderId,
    { name = '', signal }: { readonly name?: string; readonly signal?: AbortSignal } = {},
  ): Promise<PodState> {
    const askedAt = performance.now();
    if (askedAt < this.#askAgainAt) return 'unknown';
    const question: GoneQuestion = {
      version: 1,
      question: toHex(this.#options.random.bytes(16)),
      pod: { uid: holder, name },
    };
    try {
      const { status, body } = await this.#service.ask(gonePath, printGoneQuestion(question), signal);
      if (status !== 200) throw new Error(`HTTP ${status}`);
      const state = readGoneAnswer(body, question);
      if (state === 'unknown') this.#say('the service does not know');
      else this.#silent = false;
      return state;
    } catch (error) {
      if (signal?.aborted === true)
        throw new HoldfastError('E_ABORTED', 'a question was interrupted', { cause: error });
      if (performance.now() - askedAt > slowMs) this.#askAgainAt = performance.now() + askAgainMs;
      this.#say(error instanceof Error ? error.message : String(error));
      return 'unknown';
    }
  }

  #say(reason: string): void {
    if (this.#silent) return;
    this.#silent = true;
    this.#options.onSilent(`whether pods are gone is not known (${reason}): they count as alive`);
  }
}
