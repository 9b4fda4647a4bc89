/**
 * Brings everything that a test cluster is made of onto this machine: Kubernetes, compiled from its Go module into one binary, helm,
 * programs of a newer Debian, and packages of this one.
 *
 * Each part is made under a temporary name and then renamed, so what is there is whole; one start at a time, the others wait. What
 * the compilation leaves (its cache, the sources of all modules: gigabytes) is removed.
 */
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  cacheDirectory,
  debianPackages,
  debianSuite,
  goModule,
  helmVersion,
  isInstalled,
  kubernetesPrograms,
  kubernetesVersion,
  type Part,
  partDirectory,
} from './programs.ts';

const checkout: string = join(import.meta.dirname, '../../..');

interface Bootstrap {
  withLock<T>(path: string, body: () => T | Promise<T>): Promise<T>;
}

const { withLock } = (await import(new URL('../../../tools/bootstrap.mjs', import.meta.url).href)) as Bootstrap;

/** Helm comes first: another phase of CI wants it early. Packages of the system come last: another phase installs some meanwhile. */
const parts: Readonly<Record<Part, (into: string, scratch: string) => void>> = {
  helm: compileHelm,
  kubernetes: compileKubernetes,
  debian: unpackDebian,
};

/** Those parts that are asked for and not there yet, and always the packages of this system. */
export async function installPrograms(wanted: readonly string[] = Object.keys(parts)): Promise<void> {
  const place = join(cacheDirectory(), 'cluster');
  mkdirSync(place, { recursive: true });
  await withLock(join(place, '.lock'), () => {
    for (const part of Object.keys(parts) as Part[]) if (wanted.includes(part)) install(part, place);
    run('node', ['tools/ci-programs.mjs'], { cwd: checkout });
  });
}

function install(part: Part, place: string): void {
  if (isInstalled(part)) {
    process.stdout.write(`${part}: is there\n`);
    return;
  }
  const scratch = mkdtempSync(join(place, '.making-'));
  const into = join(scratch, 'made');
  const startedMs = performance.now();
  process.stdout.write(`${part}: making ${partDirectory(part)} …\n`);
  try {
    mkdirSync(into);
    parts[part](into, scratch);
    // tools/helm.ts may have been quicker.
    if (!isInstalled(part)) renameSync(into, partDirectory(part));
  } finally {
    rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
  }
  process.stdout.write(`${part}: made in ${((performance.now() - startedMs) / 1000).toFixed(0)} s\n`);
}

/** Everything of Go in the scratch directory. */
function goEnvironment(scratch: string): NodeJS.ProcessEnv {
  return {
    CGO_ENABLED: '0',
    GOCACHE: join(scratch, 'cache'),
    GOMODCACHE: join(scratch, 'modules'),
    // Else the sources of modules cannot be removed.
    GOFLAGS: '-modcacherw',
    GOTOOLCHAIN: 'local',
  };
}

function compileKubernetes(into: string, scratch: string): void {
  const [major, minor] = kubernetesVersion.split('.');
  const name = 'k8s.io/component-base/version';
  const said = [
    ['gitVersion', `v${kubernetesVersion}`],
    ['gitMajor', major],
    ['gitMinor', minor],
  ].map(([field, value]) => `-X ${name}.${field}=${value}`);
  const flags = ['-trimpath', '-mod=readonly', '-ldflags', ['-s', '-w', ...said].join(' ')];
  const env = goEnvironment(scratch);
  run('go', ['build', ...flags, '-o', join(into, 'kubernetes'), '.'], { cwd: goModule, env });
  run('go', ['build', ...flags, '-o', join(into, 'pause'), './pause'], { cwd: goModule, env });
  for (const each of kubernetesPrograms) symlinkSync('kubernetes', join(into, each));
}

function compileHelm(into: string, scratch: string): void {
  // Outside of any module, so that the versions are those that its own module names.
  run('go', ['install', '-trimpath', '-ldflags', '-s -w', `helm.sh/helm/v3/cmd/helm@v${helmVersion}`], {
    cwd: scratch,
    env: { ...goEnvironment(scratch), GOBIN: into },
  });
}

/** With lists and a cache of its own, so that this system's apt knows nothing of the other suite. */
function unpackDebian(into: string, scratch: string): void {
  mkdirSync(join(scratch, 'lists/partial'), { recursive: true });
  mkdirSync(join(scratch, 'archives/partial'), { recursive: true });
  const sources = join(scratch, 'sources.list');
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(sources, `deb [signed-by=${key}] ${debianMirror()} ${debianSuite} main\n`);
  const options = [
    `Dir::Etc::SourceList=${sources}`,
    'Dir::Etc::SourceParts=-',
    `Dir::State::Lists=${scratch}/lists`,
    `Dir::Cache=${scratch}`,
    'Dir::State::status=/dev/null',
    'APT::Sandbox::User=root',
  ].flatMap((each) => ['-o', each]);
  run('apt-get', ['-qq', ...options, 'update'], { cwd: scratch });
  run('apt-get', ['-qq', ...options, 'download', ...debianPackages], { cwd: scratch });
  for (const file of readdirSync(scratch).filter((each) => each.endsWith('.deb'))) {
    run('dpkg', ['-x', join(scratch, file), into], { cwd: scratch });
    process.stdout.write(`debian: ${file}\n`);
  }
}

/** Where this system's own packages come from. */
function debianMirror(): string {
  const sources = '/etc/apt/sources.list.d/debian.sources';
  const mirror = /^URIs:\s*(\S+)/m.exec(readFileSync(sources, 'utf8'))?.[1];
  if (mirror === undefined) throw new Error(`${sources} names no mirror`);
  return mirror;
}

function run(command: string, args: readonly string[], options: { cwd: string; env?: NodeJS.ProcessEnv }): void {
  const { status, signal, error } = spawnSync(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 2, 2],
  });
  if (error !== undefined) throw new Error(`${command} cannot be started: ${error.message}`);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${signal ?? `exit code ${status}`}`);
}
