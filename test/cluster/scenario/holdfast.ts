/** Holdfast in the cluster, as its users install it: a repository in the store, and the chart. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Site } from '../harness/site.ts';

export const clusterName = 'test';
export const credentialsSecret = 'holdfast-store';
export const holdfastNamespace = 'holdfast';
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
  return {
    cluster: clusterName,
    image: { repository, tag, pullPolicy: 'IfNotPresent' },
    stores: {
      default: { address: site.facts.store.address, namespaces: ['*'], credentialsSecret },
    },
  };
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
