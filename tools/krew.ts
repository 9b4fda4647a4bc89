/**
 * `node tools/krew.ts BASE-URL [DIRECTORY]`: an archive of the plugin for kubectl, and the manifest by which krew installs it from there. The
 * archive holds compiled files and packages of production; it runs on any system that has Node 26.
 */
import { spawnSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { version } from '../src/cli/version.ts';

const root = join(import.meta.dirname, '..');

export interface KrewArchive {
  readonly version: string;
  readonly url: string;
  readonly sha256: string;
}

/** As krew.googlecontainertools.github.com/v1alpha2 has it. */
export function krewManifest({ version: of, url, sha256 }: KrewArchive): string {
  const platform = (os: string, arch: string): string => `    - selector:
        matchLabels: {os: ${os}, arch: ${arch}}
      uri: ${url}
      sha256: ${sha256}
      bin: bin/kubectl-holdfast
`;
  return `apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: holdfast
spec:
  version: v${of}
  homepage: https://github.com/holdfast/holdfast
  shortDescription: See, check and roll back the kept data of ephemeral volumes
  description: |
    Holdfast keeps the data of ephemeral volumes (emptyDir, generic ephemeral, CSI inline) alive beyond their pod. This plugin says what would
    be injected into a pod and what it would be restored from, lists every ephemeral volume of a cluster, takes checkpoints, rolls
    workloads back, and checks the installation. Everything is done with your own rights.
  caveats: |
    Needs Node 26 or newer in PATH, and Kubernetes 1.29 or newer in the cluster. Begin with: kubectl holdfast doctor
  platforms:
${platform('linux', 'amd64')}${platform('linux', 'arm64')}${platform('darwin', 'amd64')}${platform('darwin', 'arm64')}`;
}

function run(command: string, args: readonly string[], cwd: string): void {
  const { status, error } = spawnSync(command, args, { cwd, stdio: ['ignore', 2, 2] });
  if (error !== undefined) throw new Error(`${command} cannot be started: ${error.message}`);
  if (status !== 0) throw new Error(`${command} ended with exit code ${status}`);
}

/** The archive, the same bytes for the same files. */
function makeArchive(path: string): void {
  const work = mkdtempSync(join(tmpdir(), 'holdfast-krew-'));
  try {
    for (const each of ['bin', 'dist', 'package.json', 'package-lock.json', '.npmrc', 'LICENSE']) {
      cpSync(join(root, each), join(work, each), { recursive: true });
    }
    run('npm', ['ci', '--ignore-scripts', '--omit=dev', '--no-audit'], work);
    const same = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0'];
    run('tar', [...same, '-czf', path, 'bin', 'dist', 'node_modules', 'package.json', 'LICENSE'], work);
  } finally {
    rmSync(work, { recursive: true });
  }
}

if (import.meta.main) {
  const [base, directory = join(root, 'dist.krew')] = process.argv.slice(2);
  if (base === undefined) throw new Error('Usage: node tools/krew.ts BASE-URL [DIRECTORY]');
  mkdirSync(directory, { recursive: true });
  const name = `kubectl-holdfast-v${version}.tar.gz`;
  const path = join(directory, name);
  makeArchive(path);
  const sha256 = hash('sha256', readFileSync(path));
  writeFileSync(
    join(directory, 'holdfast.yaml'),
    krewManifest({ version, url: `${base.replace(/\/+$/, '')}/${name}`, sha256 }),
  );
  process.stdout.write(`${path}\n${join(directory, 'holdfast.yaml')}\n`);
}
