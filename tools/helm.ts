/**
 * Helm, at exactly one version, outside of the checkout: `node tools/helm.ts` installs it where it is missing and prints its path. It
 * is compiled by Go, which takes two minutes, once for each machine.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

export const helmVersion = '3.22.0';

/** Where it lies once it is installed; the directory is there when it is whole. */
export function helmPath(): string {
  const cache = process.env['XDG_CACHE_HOME'];
  const parent = cache?.startsWith('/') ? cache : join(homedir(), '.cache');
  return join(parent, 'holdfast-test/cluster', `helm-${helmVersion}`, 'helm');
}

/** The program that HELM names, else the installed one; undefined where there is none. */
export function findHelm(): string | undefined {
  const named = process.env['HELM'];
  if (named !== undefined && named !== '') return named;
  return existsSync(helmPath()) ? helmPath() : undefined;
}

/** Its path; throws where it cannot be made. */
export function installHelm(): string {
  const there = findHelm();
  if (there !== undefined) return there;
  const target = dirname(helmPath());
  mkdirSync(dirname(target), { recursive: true });
  const scratch = mkdtempSync(join(dirname(target), '.making-helm-'));
  try {
    const into = join(scratch, 'made');
    mkdirSync(into);
    // Outside of any module, so that the versions are those that its own module names.
    const args = ['install', '-trimpath', '-ldflags', '-s -w', `helm.sh/helm/v3/cmd/helm@v${helmVersion}`];
    const { status, error } = spawnSync('go', args, {
      cwd: scratch,
      stdio: ['ignore', 2, 2],
      env: {
        ...process.env,
        CGO_ENABLED: '0',
        GOBIN: into,
        GOCACHE: join(scratch, 'cache'),
        GOMODCACHE: join(scratch, 'modules'),
        // Else the sources of modules cannot be removed.
        GOFLAGS: '-modcacherw',
      },
    });
    if (error !== undefined) throw new Error(`go cannot be started: ${error.message}`);
    if (status !== 0) throw new Error(`go ${args.join(' ')} ended with exit code ${status}`);
    // Somebody else may have been quicker.
    if (!existsSync(target)) renameSync(into, target);
  } finally {
    rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
  }
  return helmPath();
}

if (import.meta.main) process.stdout.write(`${installHelm()}\n`);
