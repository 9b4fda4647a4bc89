import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** What a test cluster is made of, outside of the checkout: one directory for each version. */
export const kubernetesVersion = '1.36.3';
export const helmVersion = '3.22.0';
/** containerd, etcd and kubectl come from this suite of Debian, unpacked and never installed: those of older ones are too old. */
export const debianSuite = 'forky';
export const debianPackages = ['containerd', 'etcd-server', 'kubectl'] as const;

export type Part = 'kubernetes' | 'helm' | 'debian';

export const goModule: string = join(import.meta.dirname, '../kubernetes');

/** Where the cache of all tests lies. */
export function cacheDirectory(): string {
  const cache = process.env['XDG_CACHE_HOME'];
  return join(cache?.startsWith('/') ? cache : join(homedir(), '.cache'), 'holdfast-test');
}

const versions: Readonly<Record<Part, () => string>> = {
  kubernetes: () => `${kubernetesVersion}-${hashOfModule()}`,
  helm: () => helmVersion,
  debian: () => debianSuite,
};

/** A part is there, and whole, when its directory is. */
export function partDirectory(part: Part): string {
  return join(cacheDirectory(), 'cluster', `${part}-${versions[part]()}`);
}

export function isInstalled(part: Part): boolean {
  return existsSync(partDirectory(part));
}

function hashOfModule(): string {
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum', 'main.go', 'pause/main.go']) hash.update(readFileSync(join(goModule, file)));
  return hash.digest('hex').slice(0, 12);
}

export type KubernetesProgram =
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'kube-proxy'
  | 'kubelet';

export const kubernetesPrograms: readonly KubernetesProgram[] = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-proxy',
  'kubelet',
];

/** Paths of the programs. */
export const programs: {
  kubernetes(name: KubernetesProgram | 'pause'): string;
  debian(name: 'containerd' | 'ctr' | 'etcd' | 'kubectl'): string;
  helm(): string;
  path(): string;
} = {
  kubernetes: (name) => join(partDirectory('kubernetes'), name),
  debian: (name) => join(partDirectory('debian'), 'usr/bin', name),
  helm: () => join(partDirectory('helm'), 'helm'),
  /** For PATH: containerd finds its shim there. */
  path: () =>
    [
      partDirectory('kubernetes'),
      join(partDirectory('debian'), 'usr/bin'),
      partDirectory('helm'),
      '/usr/local/bin',
      '/usr/sbin',
      '/usr/bin',
      '/sbin',
      '/bin',
    ].join(':'),
};
