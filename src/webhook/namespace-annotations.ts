/**
 * What the annotations of a namespace say for its pods, read when a pod of it that opted in is created. A moment old is new enough, so
 * that a rollout asks once and not for each pod; an older answer counts only while the API server gives none.
 */
import { annotationPrefix } from '../contract/annotations.ts';
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Clock } from '../engine/ports/clock.ts';
import { JsonReader, type Json, MalformedError } from './json.ts';
import type { KubeApi } from './kube-api.ts';

const freshMs = 1000;
const usableMs = 600_000;
/** Of a review's 5 s. */
const answerMsMax = 2000;
const namespacesMax = 10_000;

interface Read {
  readonly annotations: Readonly<Record<string, string>>;
  readonly readMs: number;
}

export class NamespaceAnnotations {
  readonly #api: KubeApi;
  readonly #clock: Clock;
  readonly #known = new Map<string, Read>();
  readonly #underWay = new Map<string, Promise<Read>>();

  constructor(api: KubeApi, clock: Clock) {
    this.#api = api;
    this.#clock = clock;
  }

  /** Those with our prefix. E_CLUSTER_* where it is not known what they are. */
  async of(namespace: string): Promise<Readonly<Record<string, string>>> {
    const known = this.#known.get(namespace);
    const ageMs = known === undefined ? Number.POSITIVE_INFINITY : this.#clock.monotonicMs() - known.readMs;
    if (known !== undefined && ageMs < freshMs) return known.annotations;
    try {
      return (await this.#readOnce(namespace)).annotations;
    } catch (error) {
      if (known === undefined || ageMs > usableMs || !isHoldfastError(error)) throw error;
      return known.annotations;
    }
  }

  /** Whoever asks while a read is under way waits for that one. */
  async #readOnce(namespace: string): Promise<Read> {
    const underWay = this.#underWay.get(namespace);
    if (underWay !== undefined) return await underWay;
    const reading = this.#read(namespace).finally(() => this.#underWay.delete(namespace));
    this.#underWay.set(namespace, reading);
    return await reading;
  }

  async #read(namespace: string): Promise<Read> {
    const signal = AbortSignal.timeout(answerMsMax);
    const readMs = this.#clock.monotonicMs();
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}`;
    const { status, object } = await this.#api.request('GET', path, { signal }).catch((error: unknown) => {
      if (!isHoldfastError(error, 'E_ABORTED')) throw error;
      const message = `the annotations of the namespace ${namespace} cannot be read: no answer within ${answerMsMax / 1000} s`;
      throw new HoldfastError('E_CLUSTER_UNREACHABLE', message, { cause: error });
    });
    if (status !== 200 && status !== 404) {
      const isRight = status === 401 || status === 403;
      throw new HoldfastError(
        isRight ? 'E_CLUSTER_REFUSED' : 'E_CLUSTER_UNREACHABLE',
        `the annotations of the namespace ${namespace} cannot be read: HTTP ${status}${isRight ? ' (get namespaces)' : ''}`,
      );
    }
    const read: Read = { annotations: status === 404 ? {} : ownAnnotations(object), readMs };
    this.#known.delete(namespace);
    this.#known.set(namespace, read);
    const [oldest] = this.#known.keys();
    if (this.#known.size > namespacesMax && oldest !== undefined) this.#known.delete(oldest);
    return read;
  }
}

function ownAnnotations(object: unknown): Readonly<Record<string, string>> {
  try {
    const all = new JsonReader(object as Json, '').object('metadata')?.textMap('annotations') ?? {};
    return Object.fromEntries(Object.entries(all).filter(([key]) => key.startsWith(annotationPrefix)));
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    throw new HoldfastError('E_CLUSTER_UNREACHABLE', `the API server answers no namespace: ${error.message}`);
  }
}
