/**
 * What helm makes of the chart, as files to be read in a review: `node test/charts/golden.ts` writes them anew, with the program that
 * HELM names, else with the one that `node tools/helm.ts` installs. The fast test needs no helm: it holds that the files were made from
 * the chart as it is now.
 */
import { spawnSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { installHelm } from '../../tools/helm.ts';

const root = join(import.meta.dirname, '../..');
export const chart: string = join(root, 'charts/holdfast');
const values = join(import.meta.dirname, 'values');
const golden = join(import.meta.dirname, 'golden');

/** Values that the chart must refuse, and what it says. */
export const refusals: readonly (readonly [args: readonly string[], message: string])[] = [
  [['--set', 'cluster='], 'cluster has to be said'],
  [['--set', 'webhook.hostNetwork=true'], 'webhook.port has to be another than 10250'],
  [['--set', 'stores=null'], 'stores has to hold one store or more'],
  [['--set', 'clustr=x'], 'clustr'],
  [['--set', 'webhook.failurePolicy=Perhaps'], 'failurePolicy'],
  [['--set', 'stores.default.namespaces=null'], 'namespaces'],
  [['--set', 'stores.default.adress=x'], 'adress'],
  [
    ['--set', 'webhook.certificate.source=secret,webhook.certificate.caBundle=eA=='],
    'webhook.certificate.secretName has to be said',
  ],
  [['--set', 'metrics.podMonitor.enabled=true'], 'wants injection.metricsPort'],
  [['--set', 'serviceAccount.create=false'], 'serviceAccount.name has to be said'],
];

export const renderNames: readonly string[] = readdirSync(values).map((file) => file.replace(/\.yaml$/, ''));

export function readRender(name: string): string {
  return readFileSync(join(golden, `${name}.yaml`), 'utf8');
}

/** Digest of all files that a render depends on, and of the renders themselves: a change of either by hand shows. */
export function digestNow(): string {
  const files = [chart, values].flatMap((directory) =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  const lines = [...files, ...renderNames.map((name) => join(golden, `${name}.yaml`))]
    .map((path) => `${path.slice(root.length + 1)} ${hash('sha256', readFileSync(path))}`)
    .sort();
  return `${hash('sha256', lines.join('\n'))}\n`;
}

export function readDigest(): string {
  return readFileSync(join(golden, 'digest.txt'), 'utf8');
}

export interface Rendered {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function helm(...args: readonly string[]): Rendered {
  const program = installHelm();
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (error !== undefined) throw new Error(`${program} cannot be started: ${error.message}. Set HELM to the program.`);
  return { status, stdout, stderr };
}

/** With the values of that name. */
export function render(name: string, more: readonly string[] = []): Rendered {
  const file = join(values, `${name}.yaml`);
  const where = ['--namespace', 'holdfast', '--kube-version', '1.33.0'];
  return helm('template', 'holdfast', chart, ...where, '--values', file, ...more);
}

export function lint(name: string): Rendered {
  return helm('lint', chart, '--strict', '--values', join(values, `${name}.yaml`));
}

if (import.meta.main) {
  for (const name of renderNames) {
    const { status, stdout, stderr } = render(name);
    if (status !== 0) throw new Error(stderr);
    writeFileSync(join(golden, `${name}.yaml`), stdout);
  }
  writeFileSync(join(golden, 'digest.txt'), digestNow());
}
