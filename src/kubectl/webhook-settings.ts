/** The settings by which the webhook of a cluster decides: from a file, or from the ConfigMap that it reads itself. */
import { annotationPrefix } from '../contract/annotations.ts';
import { HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import { isObject, type JsonObject } from '../webhook/json.ts';
import { parseSettings, type WebhookSettings } from '../webhook/settings.ts';
import type { Cluster } from './cluster.ts';
import type { KubectlHost } from './host.ts';
import { findObject, getObject, listObjects, objectsAt, textAt, valueAt } from './objects.ts';
import type { KubectlParsed } from './options.ts';

export interface WebhookPlace {
  /** Of the release. */
  readonly namespace: string;
  /** Of Service, Deployment and ConfigMap alike. */
  readonly name: string;
  readonly configuration: JsonObject;
}

const configurations = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations';
const ownWebhook = 'inject.holdfast.dev';

/** Where the webhook is installed, from its registration; undefined where there is none. */
export async function findWebhook(cluster: Cluster, signal: AbortSignal): Promise<WebhookPlace | undefined> {
  const found = await listObjects(cluster, configurations, { what: 'webhook configurations', signal });
  for (const configuration of found) {
    for (const webhook of objectsAt(configuration, 'webhooks')) {
      if (textAt(webhook, 'name') !== ownWebhook) continue;
      const service = valueAt(webhook, 'clientConfig', 'service');
      if (!isObject(service)) continue;
      return { namespace: textAt(service, 'namespace'), name: textAt(service, 'name'), configuration };
    }
  }
  return undefined;
}

/** E_CLUSTER_REFUSED where the caller may not read them, or there is no webhook. */
export async function settingsOf(
  host: KubectlHost,
  parsed: KubectlParsed,
  connect: () => Promise<Cluster>,
): Promise<WebhookSettings> {
  const file = parsed.text('settings');
  if (file !== undefined) return parseSettings(await host.readText(file));
  const cluster = await connect();
  const place = await findWebhook(cluster, host.signal);
  if (place === undefined) {
    throw new HoldfastError('E_CLUSTER_REFUSED', `no webhook of Holdfast is installed in ${cluster.context}`, {
      remedy: 'Install the chart, or give the settings that are meant: --settings FILE.',
    });
  }
  return await settingsAt(cluster, place, host.signal);
}

export async function settingsAt(
  cluster: Cluster,
  { namespace, name }: WebhookPlace,
  signal: AbortSignal,
): Promise<WebhookSettings> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/configmaps/${encodeURIComponent(name)}`;
  const map = await getObject(cluster, path, `ConfigMap ${namespace}/${name}`, signal);
  return parseSettings(textAt(map, 'data', 'settings.json'));
}

/**
 * What a namespace says of its pods, where the webhook lets it: annotations with our prefix. None where the caller may not know. With settings
 * from a file nothing is asked.
 */
export async function namespaceAnnotations(
  cluster: Cluster,
  namespace: string,
  signal: AbortSignal,
): Promise<Readonly<Record<string, string>>> {
  try {
    const place = await findWebhook(cluster, signal);
    if (place === undefined) return {};
    const path = `/apis/apps/v1/namespaces/${place.namespace}/deployments/${place.name}`;
    const deployment = await findObject(cluster, path, `Deployment ${place.name}`, signal);
    const [container] = objectsAt(deployment, 'spec', 'template', 'spec', 'containers');
    const args = valueAt(container, 'args');
    if (!Array.isArray(args) || !args.includes('--namespace-defaults')) return {};
    const found = await findObject(cluster, `/api/v1/namespaces/${encodeURIComponent(namespace)}`, namespace, signal);
    const annotations = valueAt(found, 'metadata', 'annotations');
    if (!isObject(annotations)) return {};
    const own = Object.entries(annotations).filter(([key]) => key.startsWith(annotationPrefix));
    return Object.fromEntries(own.flatMap(([key, value]) => (typeof value === 'string' ? [[key, value]] : [])));
  } catch (error) {
    if (!isHoldfastError(error, 'E_CLUSTER_REFUSED')) throw error;
    return {};
  }
}
