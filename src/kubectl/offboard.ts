/**
 * `kubectl holdfast offboard WORKLOAD`: a workload goes on without Holdfast. Takes the annotations out of its template, which restarts its
 * pods: their agents save once more and seal before they end. What is stored stays.
 */
import { annotationPrefix } from '../contract/annotations.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { isObject, type JsonObject } from '../webhook/json.ts';
import type { KubectlHost } from './host.ts';
import { getObject, objectOf, valueAt } from './objects.ts';
import { type KubectlParsed, kubectlUsage } from './options.ts';
import { workloadPath } from './workloads.ts';

export async function offboard(host: KubectlHost, parsed: KubectlParsed): Promise<number> {
  const [text, more] = parsed.positionals;
  if (text === undefined || more !== undefined) throw kubectlUsage('offboard', 'give one KIND/NAME');
  const cluster = await host.connect({ kubeconfig: parsed.text('kubeconfig'), context: parsed.text('context') });
  const namespace = parsed.text('namespace') ?? cluster.namespace;
  const { path, what, kind } = workloadPath('offboard', text, namespace);
  if (kind !== 'deployment' && kind !== 'statefulset' && kind !== 'daemonset') {
    throw kubectlUsage('offboard', `${what}: only a Deployment, StatefulSet or DaemonSet makes its pods anew`);
  }
  const object = await getObject(cluster, path, `${what} in ${namespace}`, host.signal);
  const names = templateAnnotations(object).filter((name) => name.startsWith(annotationPrefix));
  if (names.length === 0) {
    throw new HoldfastError('E_NOT_FOUND', `${what} in ${namespace} has no annotation of Holdfast`, {
      remedy: 'There is nothing to take out.',
    });
  }
  const done = parsed.flag('yes');
  if (done) {
    const annotations = Object.fromEntries(names.map((name) => [name, null]));
    const patch = { spec: { template: { metadata: { annotations } } } };
    const options = { body: patch, contentType: 'application/merge-patch+json', signal: host.signal };
    objectOf(await cluster.request('PATCH', `${path}?fieldManager=kubectl-holdfast`, options), `patch ${what}`);
  }
  if (parsed.form === 'json') host.stdout.write(`${JSON.stringify({ what, namespace, annotations: names, done })}\n`);
  else {
    host.stdout.write(
      done
        ? `${what}: ${names.length} annotations taken out. Its pods are made anew, after a last checkpoint each; what is stored stays.\n` +
            'Take them out of the manifest as well, or the next deployment brings them back.\n'
        : `${what}: would take out ${names.join(', ')}, and so restart its pods. With --yes it is done.\n` +
            'New pods start empty: copy out first what is still needed (kubectl holdfast restore).\n',
    );
  }
  return 0;
}

export function templateAnnotations(object: JsonObject): readonly string[] {
  const annotations = valueAt(object, 'spec', 'template', 'metadata', 'annotations');
  return isObject(annotations) ? Object.keys(annotations) : [];
}
