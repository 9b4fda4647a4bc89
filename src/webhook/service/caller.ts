/**
 * Who asks: a pod, by the token that the kubelet has given it for this audience alone. The API server says whose it is, and that the
 * pod still exists; nothing that the caller writes elsewhere counts.
 */
import { isObject, JsonReader, type Json, MalformedError } from '../json.ts';
import type { KubeApi } from '../kube-api.ts';

export interface Caller {
  readonly namespace: string;
  readonly podName: string;
  readonly podUid: string;
}

/** unknown: nobody is known to ask. unanswered: the API server did not say. */
export type CallerAnswer = Caller | 'unknown' | 'unanswered';

/** A projected token has some 1,000 characters. */
const tokenLengthMax = 8192;
const reviewPath = '/apis/authentication.k8s.io/v1/tokenreviews';

/** `authorization`: the header, as it came. Rejects with E_ABORTED only. */
export async function callerOf(
  api: KubeApi,
  authorization: string | undefined,
  audience: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<CallerAnswer> {
  const token = bearerToken(authorization);
  if (token === undefined) return 'unknown';
  const body = {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences: [audience] },
  };
  const { status, object } = await api.request('POST', reviewPath, { ...options, body });
  if (status !== 200 && status !== 201) return 'unanswered';
  return readTokenReview(object, audience);
}

/** Undefined for what cannot be a token of a ServiceAccount: nobody is asked about it. */
export function bearerToken(authorization: string | undefined): string | undefined {
  const match = /^Bearer ([\w-]+\.[\w-]+\.[\w-]+)$/.exec(authorization ?? '');
  const token = match?.[1];
  return token === undefined || token.length > tokenLengthMax ? undefined : token;
}

/** The pod of a review's answer; one that is not bound to a pod is nobody's here. */
export function readTokenReview(object: unknown, audience: string): CallerAnswer {
  try {
    const status = new JsonReader(object as Json, '').object('status');
    if (status?.boolean('authenticated') !== true) return 'unknown';
    // A server that does not know audiences answers none: its word is about any audience.
    if (!status.texts('audiences').includes(audience)) return 'unknown';
    const user = status.object('user');
    const account = /^system:serviceaccount:([a-z0-9-]{1,63}):[a-z0-9.-]{1,253}$/.exec(user?.text('username') ?? '');
    const extra = user?.object('extra');
    const one = (key: string): string => {
      const values = extra?.texts(`authentication.kubernetes.io/${key}`) ?? [];
      return values.length === 1 ? (values[0] as string) : '';
    };
    const [podName, podUid] = [one('pod-name'), one('pod-uid')];
    if (account === null || podName === '' || podUid === '') return 'unknown';
    return { namespace: account[1] as string, podName, podUid };
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    return isObject(object as Json) ? 'unknown' : 'unanswered';
  }
}
