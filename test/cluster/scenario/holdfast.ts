/** Holdfast in the cluster, as its users install it: a repository in the store, and the chart. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Certificates } from '../harness/certificates.ts';
import type { Site } from '../harness/site.ts';

export const clusterName = 'test';
export const credentialsSecret = 'holdfast-store';
export const holdfastNamespace = 'holdfast';
const webhook = 'holdfast-webhook';
const chart: string = join(import.meta.dirname, '../../../charts/holdfast');

/** Makes the repository, where there is none, and installs the chart, or makes it as these values say. */
export function installHoldfast(site: Site, values: object = {}): void {
  if (!existsSync(site.keyFile)) site.run(['holdfast', 'init']);
  const file = site.at('values.json');
  writeFileSync(file, JSON.stringify(merge(valuesFor(site), values)));
  site.run([
    ...['helm', 'upgrade', '--install', 'holdfast', chart, `--namespace=${holdfastNamespace}`, '--create-namespace'],
    ...[`--values=${file}`, '--wait', '--timeout=120s'],
  ]);
}

function valuesFor(site: Site): object {
  const [, repository, tag] = /^(.*):([^:/]+)$/.exec(site.facts.image) ?? [];
  const certificates = makeCertificate(site);
  return {
    cluster: clusterName,
    image: { repository, tag, pullPolicy: 'IfNotPresent' },
    stores: {
      default: { address: site.facts.store.address, namespaces: ['*'], credentialsSecret },
    },
    webhook: {
      certificate: {
        source: 'secret',
        secretName: `${webhook}-own`,
        caBundle: readFileSync(certificates.at('ca.crt')).toString('base64'),
      },
    },
  };
}

/** A certificate of a CA of ours, in a Secret. */
function makeCertificate(site: Site): Certificates {
  mkdirSync(site.facts.place, { recursive: true });
  const certificates = new Certificates(site.at('webhook-pki'));
  certificates.issue('webhook', `/CN=${webhook}`, [`DNS:${webhook}.${holdfastNamespace}.svc`]);
  const text = (file: string): string => readFileSync(certificates.at(file), 'utf8');
  site.apply(
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: holdfastNamespace } },
    {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'kubernetes.io/tls',
      metadata: { name: `${webhook}-own`, namespace: holdfastNamespace },
      stringData: { 'tls.crt': text('webhook.crt'), 'tls.key': text('webhook.key') },
    },
  );
  return certificates;
}

/** The second one counts; members of objects one by one. */
function merge(under: object, over: object): object {
  const merged: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    const both = [before, value].every((each) => typeof each === 'object' && each !== null && !Array.isArray(each));
    merged[key] = both ? merge(before as object, value as object) : value;
  }
  return merged;
}
