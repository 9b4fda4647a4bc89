/** Asks Holdfast's service in the cluster whether a pod is gone. See contract/gone-question.ts. */
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import {
  type GoneQuestion,
  goneAnswerBytesMax,
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

export interface GoneServiceOptions {
  /** `http://` or `https://`, host and port, a path in front if there is one. */
  readonly address: string;
  /** The pod's bound token, read again for each question since it is replaced; undefined: none is sent. */
  readonly tokenFile: string | undefined;
  /** Certificates that the service's is signed with; undefined: those of the system. */
  readonly caFile: string | undefined;
  readonly random: RandomSource;
  /** Told why there is no answer; once until there is one again. */
  readonly onSilent: (reason: string) => void;
}

/** One question: a service that is restarted answers within this, and nobody waits longer for an answer that only spares a wait. */
const answerMsMax = 5000;

/** E_USAGE when the address is none. */
export function openGoneService(options: GoneServiceOptions): GoneService {
  const url = URL.canParse(options.address) ? new URL(options.address) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') {
    throw new HoldfastError(
      'E_USAGE',
      `--service is ${JSON.stringify(options.address)}, not the address of a service`,
      {
        remedy:
          'Give an address such as https://holdfast.holdfast-system.svc; the token is a file (--service-token-file).',
      },
    );
  }
  return new GoneService(options, new URL(url.pathname.replace(/\/+$/, '') + gonePath, url));
}

export class GoneService implements Liveness {
  readonly #options: GoneServiceOptions;
  readonly #url: URL;
  #silent = false;

  constructor(options: GoneServiceOptions, url: URL) {
    this.#options = options;
    this.#url = url;
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
    const question: GoneQuestion = {
      version: 1,
      question: toHex(this.#options.random.bytes(16)),
      pod: { uid: holder, name },
    };
    try {
      const text = await this.#ask(printGoneQuestion(question), signal);
      const state = readGoneAnswer(text, question);
      if (state === 'unknown') this.#say('the service does not know');
      else this.#silent = false;
      return state;
    } catch (error) {
      if (signal?.aborted === true)
        throw new HoldfastError('E_ABORTED', 'a question was interrupted', { cause: error });
      this.#say(error instanceof Error ? error.message : String(error));
      return 'unknown';
    }
  }

  #say(reason: string): void {
    if (this.#silent) return;
    this.#silent = true;
    this.#options.onSilent(`whether pods are gone is not known (${reason}): they count as alive`);
  }

  async #ask(body: string, signal: AbortSignal | undefined): Promise<string> {
    const { tokenFile, caFile } = this.#options;
    const token = tokenFile === undefined ? undefined : (await readFile(tokenFile, 'utf8')).trim();
    const ca = caFile === undefined ? undefined : await readFile(caFile);
    const timeout = AbortSignal.timeout(answerMsMax);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = (this.#url.protocol === 'https:' ? httpsRequest : httpRequest)(
        this.#url,
        {
          method: 'POST',
          agent: false,
          headers: {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          },
          ...(ca === undefined ? {} : { ca }),
          signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
        },
        resolve,
      );
      request.on('error', reject);
      request.end(body);
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > goneAnswerBytesMax) {
        response.destroy();
        throw new Error('an answer that is too long');
      }
      chunks.push(chunk);
    }
    if (response.statusCode !== 200) throw new Error(`HTTP ${response.statusCode}`);
    return Buffer.concat(chunks).toString();
  }
}
