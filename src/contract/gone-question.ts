/**
 * "Is this pod gone?", as pods ask it of Holdfast's service in the cluster, which asks the API server with a quorum read.
 *
 *   POST <service>/v1/pods/gone      Authorization: Bearer <the pod's own bound token>
 *
 * The namespace is that of the token: no pod asks about another's. Nothing but a whole answer to this very question counts, so an answer
 * that something between has kept says nothing: the question has a random number, and the answer repeats it. Everything else, no answer
 * included, means that the pod may be alive.
 */
import { asObject, asOneOf, asText } from './plain-json.ts';

export const gonePath = '/v1/pods/gone';

export interface GoneQuestion {
  readonly version: 1;
  /** 32 hexadecimal digits, new for each question. */
  readonly question: string;
  readonly pod: {
    readonly uid: string;
    /** As its CLAIM names it. */
    readonly name: string;
  };
}

/**
 * gone: the read that followed this question found no pod of that name, or one with another UID. terminating: it exists, and has been
 * told to end. unknown: the service could not find out.
 */
export type PodState = 'gone' | 'terminating' | 'alive' | 'unknown';

export interface GoneAnswer {
  readonly version: 1;
  readonly question: string;
  readonly pod: { readonly uid: string };
  readonly state: PodState;
}

export function printGoneQuestion(question: GoneQuestion): string {
  return JSON.stringify(question);
}

/** Undefined when it is none. */
export function parseGoneQuestion(text: string): GoneQuestion | undefined {
  try {
    const plain = asObject(JSON.parse(text));
    const pod = asObject(plain['pod']);
    const question = asText(plain['question']);
    if (plain['version'] !== 1 || !/^[0-9a-f]{32}$/.test(question)) return undefined;
    return { version: 1, question, pod: { uid: asText(pod['uid']), name: asText(pod['name']) } };
  } catch {
    return undefined;
  }
}

/** What is known of the pod: `unknown` unless `text` is a whole answer to that question. */
export function readGoneAnswer(text: string, asked: GoneQuestion): PodState {
  try {
    const plain = asObject(JSON.parse(text));
    const mine = plain['version'] === 1 && plain['question'] === asked.question;
    if (!mine || asObject(plain['pod'])['uid'] !== asked.pod.uid) return 'unknown';
    return asOneOf(plain['state'], ['gone', 'terminating', 'alive', 'unknown']);
  } catch {
    return 'unknown';
  }
}
