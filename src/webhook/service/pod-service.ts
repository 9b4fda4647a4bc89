/**
 * What pods ask: is that pod gone, and which checkpoint of my lineage was the last. Each question is answered by asking the API server
 * then and there; no answer of it is kept. Whoever cannot be told apart from somebody else is told nothing.
 *
 *   who is it (caller.ts)  →  may it ask that (own-lineage.ts)  →  one read or write (pod-state.ts, anchor-store.ts)
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  anchorFindPath,
  type AnchorAnswer,
  type AnchorQuestion,
  anchorReportPath,
  parseAnchorQuestion,
  parseAnchorReport,
} from '../../contract/anchor-question.ts';
import { type GoneAnswer, gonePath, parseGoneQuestion } from '../../contract/gone-question.ts';
import { type Anchor, printAnchor } from '../../engine/model/anchor.ts';
import { type HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import type { LineageName } from '../../engine/model/ids.ts';
import type { Clock } from '../../engine/ports/clock.ts';
import type { KubeApi } from '../kube-api.ts';
import { AnchorStore } from './anchor-store.ts';
import { type Caller, callerOf } from './caller.ts';
import { isOfNamespace, writesLineage } from './own-lineage.ts';
import { podState, readPodObject } from './pod-state.ts';

export interface PodServiceParts {
  readonly api: KubeApi;
  readonly clock: Clock;
  /** Of the ConfigMaps that keep anchors. */
  readonly namespace: string;
  /** As the settings say now. */
  readonly settings: () => { readonly cluster: string; readonly audience: string };
  /** Told of each question; `trouble` where somebody has to look. */
  readonly onAnswer: (told: ToldAnswer) => void;
  /** Told of each sweep: how many anchors of Jobs are gone, or why not. */
  readonly onSwept: (count: number, error: HoldfastError | undefined) => void;
}

export type PodQuestion = 'gone' | 'anchor-find' | 'anchor-report';

/**
 * answered. malformed: no such question. denied: nobody known, or not theirs to ask. conflict: a report that contradicts what is kept.
 * silent: the API server did not answer, or does not let the service ask. busy: too many at once.
 */
export type PodOutcome = 'answered' | 'malformed' | 'denied' | 'conflict' | 'silent' | 'busy';

export interface ToldAnswer {
  readonly question: PodQuestion;
  readonly outcome: PodOutcome;
  readonly caller: Caller | undefined;
  readonly lineage: string | undefined;
  readonly detail: string;
}

/** Longer than any question. */
const bodyBytesMax = 4096;
/** Those who ask give up after 5 s. */
const answerMsMax = 4500;
const sweepMs = 3_600_000;
/** More than that wait for the API server only when it is in trouble, and more of them would not help it. */
const underWayMax = 128;
/** Pods that were found to write a lineage; a pod's UID and status stand for good. */
const verifiedMax = 8192;

/** An answer other than 200. */
class Denial extends Error {
  readonly status: number;
  readonly outcome: PodOutcome;

  constructor(status: number, outcome: PodOutcome, message: string) {
    super(message);
    this.status = status;
    this.outcome = outcome;
  }
}

export class PodService {
  readonly #parts: PodServiceParts;
  readonly #anchors: AnchorStore;
  readonly #verified = new Set<string>();
  #underWay = 0;

  constructor(parts: PodServiceParts) {
    this.#parts = parts;
    this.#anchors = new AnchorStore(parts);
  }

  /** Sweeps the anchors of Jobs from time to time, until the signal fires. Whatever keeps it from that, the next time comes. */
  async tidy(signal: AbortSignal): Promise<void> {
    const { clock, onSwept } = this.#parts;
    try {
      for (;;) {
        await clock.wait(sweepMs, { signal });
        try {
          onSwept(await this.#anchors.sweep({ signal }), undefined);
        } catch (error) {
          if (!isHoldfastError(error, 'E_CLUSTER_UNREACHABLE', 'E_CLUSTER_REFUSED')) throw error;
          onSwept(0, error);
        }
      }
    } catch (error) {
      if (!isHoldfastError(error, 'E_ABORTED')) throw error;
    }
  }

  /** Adds the three paths. */
  serve(app: FastifyInstance): void {
    const limits = { bodyLimit: bodyBytesMax };
    app.post(gonePath, limits, (request, reply) => this.#answer('gone', request, reply));
    app.post(anchorFindPath, limits, (request, reply) => this.#answer('anchor-find', request, reply));
    app.post(anchorReportPath, limits, (request, reply) => this.#answer('anchor-report', request, reply));
  }

  async #answer(question: PodQuestion, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const told = { question, caller: undefined as Caller | undefined, lineage: undefined as string | undefined };
    const tell = (outcome: PodOutcome, detail: string): void => this.#parts.onAnswer({ ...told, outcome, detail });
    reply.type('application/json');
    if (this.#underWay >= underWayMax) {
      tell('busy', '');
      return reply.code(503).send('{"error":"busy"}');
    }
    this.#underWay++;
    try {
      const signal = AbortSignal.timeout(answerMsMax);
      const text = (request.body as Buffer | undefined)?.toString('utf8') ?? '';
      const caller = await this.#caller(request.headers.authorization, signal);
      told.caller = caller;
      const { body, about, detail } = await this.#ask(question, text, caller, signal);
      told.lineage = about;
      tell('answered', detail);
      return reply.send(body);
    } catch (error) {
      const denial = asDenial(error);
      if (denial === undefined) throw error;
      tell(denial.outcome, denial.message);
      return reply.code(denial.status).send(JSON.stringify({ error: denial.message }));
    } finally {
      this.#underWay--;
    }
  }

  async #caller(authorization: string | undefined, signal: AbortSignal): Promise<Caller> {
    const { api, settings } = this.#parts;
    const caller = await callerOf(api, authorization, settings().audience, { signal });
    if (caller === 'unanswered') throw new Denial(503, 'silent', 'the API server does not review tokens');
    if (caller === 'unknown') throw new Denial(401, 'denied', 'no token of a pod for this audience');
    return caller;
  }

  async #ask(
    question: PodQuestion,
    text: string,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<{ readonly body: string; readonly about: string | undefined; readonly detail: string }> {
    if (question === 'gone') {
      const asked = parseGoneQuestion(text);
      if (asked === undefined) throw new Denial(400, 'malformed', 'no question');
      const { pod } = asked;
      const state = await podState(this.#parts.api, { namespace: caller.namespace, ...pod }, { signal });
      const answer: GoneAnswer = { version: 1, question: asked.question, pod: { uid: pod.uid }, state };
      return { body: JSON.stringify(answer), about: undefined, detail: `${pod.name} is ${state}` };
    }
    if (question === 'anchor-find') {
      const asked = parseAnchorQuestion(text);
      if (asked === undefined) throw new Denial(400, 'malformed', 'no question');
      this.#assertOwnNamespace(asked.lineage, caller);
      const anchor = await this.#anchors.find(asked.lineage, { signal });
      return { body: answerText(asked, anchor), about: asked.lineage, detail: String(anchor?.slot ?? 'none') };
    }
    const asked = parseAnchorReport(text);
    if (asked === undefined) throw new Denial(400, 'malformed', 'no report');
    const { lineage, anchor } = asked;
    this.#assertOwnNamespace(lineage, caller);
    await this.#assertWriter(lineage, caller, signal);
    const { namespace, podName } = caller;
    const { outcome, anchor: kept } = await this.#anchors.report({ lineage, anchor, namespace, podName }, { signal });
    if (outcome === 'conflict') {
      throw new Denial(
        409,
        'conflict',
        `${lineage}: another record is kept at slot ${anchor.slot} than ${podName} reports`,
      );
    }
    return { body: answerText(asked, kept), about: lineage, detail: String(kept.slot) };
  }

  #assertOwnNamespace(lineage: LineageName, { namespace }: Caller): void {
    if (isOfNamespace(lineage, this.#parts.settings().cluster, namespace)) return;
    throw new Denial(403, 'denied', `the lineage is not of the namespace ${namespace}`);
  }

  async #assertWriter(lineage: LineageName, caller: Caller, signal: AbortSignal): Promise<void> {
    const key = `${caller.podUid} ${lineage}`;
    if (this.#verified.has(key)) return;
    const pod = { namespace: caller.namespace, name: caller.podName };
    const { status, object } = await readPodObject(this.#parts.api, pod, { signal });
    if (status !== 200 && status !== 404)
      throw new Denial(503, 'silent', `the API server answers HTTP ${status} for a pod`);
    if (status === 404 || !writesLineage(object, caller.podUid, lineage)) {
      throw new Denial(403, 'denied', `the pod ${caller.podName} does not write this lineage`);
    }
    this.#verified.add(key);
    const [oldest] = this.#verified;
    if (this.#verified.size > verifiedMax && oldest !== undefined) this.#verified.delete(oldest);
  }
}

function answerText({ question, lineage }: AnchorQuestion, anchor: Anchor | undefined): string {
  const answer: AnchorAnswer = {
    version: 1,
    question,
    lineage,
    anchor: anchor === undefined ? null : printAnchor(anchor),
  };
  return JSON.stringify(answer);
}

function asDenial(error: unknown): Denial | undefined {
  if (error instanceof Denial) return error;
  if (!isHoldfastError(error, 'E_CLUSTER_UNREACHABLE', 'E_CLUSTER_REFUSED', 'E_ABORTED')) return undefined;
  return new Denial(503, 'silent', (error as HoldfastError).message);
}
