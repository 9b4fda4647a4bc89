/** Asks Holdfast's service in the cluster for anchors, and reports them. See contract/anchor-question.ts. */
import {
  anchorFindPath,
  type AnchorQuestion,
  anchorReportPath,
  printAnchorQuestion,
  printAnchorReport,
  readAnchorAnswer,
} from '../../contract/anchor-question.ts';
import type { Anchor } from '../../engine/model/anchor.ts';
import { toHex } from '../../engine/model/bytes.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import type { LineageName } from '../../engine/model/ids.ts';
import type { Anchors } from '../../engine/ports/anchors.ts';
import type { RandomSource } from '../../engine/ports/random.ts';
import { openServiceConnection, type ServiceConnection, type ServiceOptions } from './service-connection.ts';

export interface AnchorServiceOptions extends ServiceOptions {
  readonly random: RandomSource;
  /** Told, once for each kind of silence, why nothing is expected or kept. */
  readonly onSilent: (reason: string) => void;
}

/** E_USAGE when the address is none. */
export function openAnchorService(options: AnchorServiceOptions): AnchorService {
  return new AnchorService(options, openServiceConnection(options));
}

export class AnchorService implements Anchors {
  readonly #options: AnchorServiceOptions;
  readonly #service: ServiceConnection;
  readonly #said = new Set<string>();

  constructor(options: AnchorServiceOptions, service: ServiceConnection) {
    this.#options = options;
    this.#service = service;
  }

  async find(lineage: LineageName, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Anchor | undefined> {
    const question = this.#question(lineage);
    try {
      const { status, body } = await this.#service.ask(anchorFindPath, printAnchorQuestion(question), signal);
      if (status !== 200) throw new Error(`HTTP ${status}`);
      const anchor = readAnchorAnswer(body, question);
      if (anchor === undefined) throw new Error('an answer to something else');
      return anchor ?? undefined;
    } catch (error) {
      throwIfAborted(signal, error);
      this.#say('find', `which checkpoint was the last is not known (${messageOf(error)}): the newest one counts`);
      return undefined;
    }
  }

  async report(
    lineage: LineageName,
    anchor: Anchor,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<'kept' | 'refused' | 'unanswered'> {
    const question = this.#question(lineage);
    try {
      const text = printAnchorReport({ ...question, anchor });
      const { status, body } = await this.#service.ask(anchorReportPath, text, signal);
      if (status === 403 || status === 409) {
        this.#say('refused', `the service does not take this pod's reports of ${lineage} (HTTP ${status})`);
        return 'refused';
      }
      if (status !== 200) throw new Error(`HTTP ${status}`);
      const kept = readAnchorAnswer(body, question);
      if (kept === undefined || kept === null || kept.slot < anchor.slot) throw new Error('it was not kept');
      return 'kept';
    } catch (error) {
      throwIfAborted(signal, error);
      this.#say(
        'report',
        `the newest checkpoint is not reported (${messageOf(error)}): a store that hides it is believed`,
      );
      return 'unanswered';
    }
  }

  #question(lineage: LineageName): AnchorQuestion {
    return { version: 1, question: toHex(this.#options.random.bytes(16)), lineage };
  }

  #say(kind: string, reason: string): void {
    if (this.#said.has(kind)) return;
    this.#said.add(kind);
    this.#options.onSilent(reason);
  }
}

function throwIfAborted(signal: AbortSignal | undefined, cause: unknown): void {
  if (signal?.aborted === true) throw new HoldfastError('E_ABORTED', 'a question was interrupted', { cause });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
