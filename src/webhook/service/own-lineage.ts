/**
 * Which lineages a pod may speak of. It asks about those of its namespace; what it reports has to be about its own workload and slot, as
 * the webhook wrote them into its status when it was created: a pod cannot make its neighbour look as if data were missing.
 */
import { annotationPrefix } from '../../contract/annotations.ts';
import { isObject, JsonReader, type Json, MalformedError } from '../json.ts';

/** Whether the lineage is of that cluster and namespace. */
export function isOfNamespace(lineage: string, cluster: string, namespace: string): boolean {
  return lineage.startsWith(`${cluster}/${namespace}/`);
}

/** Whether the pod, as the API server has it, writes that lineage. */
export function writesLineage(pod: unknown, uid: string, lineage: string): boolean {
  try {
    const reader = new JsonReader(pod as Json, '');
    const metadata = reader.object('metadata');
    if (metadata?.text('uid') !== uid) return false;
    const annotations = metadata.textMap('annotations');
    if (annotations[`${annotationPrefix}inject`] !== 'true') return false;
    const status = statusIn(annotations[`${annotationPrefix}status`]);
    const workload = status?.text('lineage');
    if (status === undefined || workload === undefined || workload === '') return false;
    switch (status.text('slot')) {
      case 'fixed':
      case 'shared':
        return lineage === workload;
      case 'node': {
        const node = reader.object('spec')?.text('nodeName') ?? '';
        return node !== '' && lineage === `${workload}/${node}`;
      }
      case 'claimed':
        return lineage.startsWith(`${workload}/`) && /^(?:0|[1-9]\d{0,5})$/.test(lineage.slice(workload.length + 1));
      default:
        return false;
    }
  } catch (error) {
    if (!(error instanceof MalformedError)) throw error;
    return false;
  }
}

function statusIn(text: string | undefined): JsonReader | undefined {
  try {
    const value = JSON.parse(text ?? '') as Json;
    return isObject(value) && value['version'] === 1 ? new JsonReader(value, 'status') : undefined;
  } catch {
    return undefined;
  }
}
