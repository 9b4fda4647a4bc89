/**
 * What one read of a pod says of it. The read names no resourceVersion, so the API server answers from etcd's quorum and from no cache:
 * a pod that is missing there is missing.
 */
import type { PodState } from '../../contract/gone-question.ts';
import { JsonReader, type Json, MalformedError } from '../json.ts';
import type { KubeAnswer, KubeApi } from '../kube-api.ts';

const podName = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/;
/** As the API server makes them. Holders that are no pods have others: of them no pod says anything. */
const podUid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export interface AskedPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** Rejects as `KubeApi.request` does. */
export async function podState(
  api: KubeApi,
  asked: AskedPod,
  options: { readonly signal?: AbortSignal } = {},
): Promise<PodState> {
  if (!podName.test(asked.name) || !podUid.test(asked.uid)) return 'unknown';
  return podStateIn(await readPodObject(api, asked, options), asked);
}

export async function readPodObject(
  api: KubeApi,
  { namespace, name }: Pick<AskedPod, 'namespace' | 'name'>,
  options: { readonly signal?: AbortSignal } = {},
): Promise<KubeAnswer> {
  return await api.request(
    'GET',
    `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`,
    options,
  );
}

/** `gone` only of what cannot be mistaken; whatever else is answered, the pod may be alive. */
export function podStateIn({ status, object }: KubeAnswer, { namespace, name, uid }: AskedPod): PodState {
  try {
    const found = new JsonReader(object as Json, '');
    if (status === 404) {
      // Not that of a proxy, nor of a missing namespace or path.
      const details = found.object('details');
      const isPod = details?.text('kind') === 'pods' && details.text('name') === name;
      return found.text('reason') === 'NotFound' && isPod ? 'gone' : 'unknown';
    }
    const metadata = found.object('metadata');
    const isIt =
      status === 200 &&
      found.text('kind') === 'Pod' &&
      metadata?.text('name') === name &&
      metadata.text('namespace') === namespace;
    if (!isIt || metadata === undefined) return 'unknown';
    if (metadata.requiredText('uid') !== uid) return 'gone';
    // No container of it runs again: an evicted pod stays as an object long after its volumes.
    if (['Succeeded', 'Failed'].includes(found.object('status')?.text('phase') ?? '')) return 'gone';
    return metadata.text('deletionTimestamp') === undefined ? 'alive' : 'terminating';
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    return 'unknown';
  }
}
