import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The program cannot be had on this machine; the message says why. */
export class NotAvailable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'NotAvailable';
  }
}

/**
 * Extracts Debian packages into a directory of the cache, without touching the system: apt with its own lists and cache,
 * `apt-get download`, `dpkg -x`. The mirror is the one that the machine's apt uses.
 * @param packages names; the first may carry a version prefix as `name=1.2.3`
 * @param suites tried in turn until one has that version
 * @returns the directory that holds `usr/…` of all packages
 * @throws NotAvailable when this is no Debian, or no suite has the version
 */
export function extractDebianPackages(
  packages: readonly [string, ...string[]],
  { suites, cacheDir, say }: { suites: readonly string[]; cacheDir: string; say: (line: string) => void },
): string {
  const [wanted = '', version] = packages[0].split('=');
  const target = join(cacheDir, 'peers', packages.join('+').replace('=', '-'));
  if (existsSync(target)) return target;
  const { uri, signedBy } = aptSource();
  const failures: string[] = [];
  for (const suite of suites) {
    const apt = new PrivateApt(join(cacheDir, 'apt', suite), { uri, signedBy, suite });
    try {
      say(`fetching ${packages.join(', ')} from Debian ${suite} …`);
      apt.run('apt-get', ['-qq', 'update']);
      const offered = apt.versionsOf(wanted);
      const chosen = offered.find((candidate) => version === undefined || candidate.startsWith(`${version}-`));
      if (chosen === undefined) {
        failures.push(`${suite} has ${wanted} ${offered.join(', ') || 'not at all'}`);
        continue;
      }
      const partial = `${target}.partial-${process.pid}`;
      mkdirSync(partial, { recursive: true });
      apt.run('apt-get', ['-qq', 'download', `${wanted}=${chosen}`, ...packages.slice(1)]);
      for (const file of readdirSync(apt.downloads)) {
        execFileSync('dpkg', ['-x', join(apt.downloads, file), partial], { stdio: 'pipe' });
      }
      renameSync(partial, target);
      return target;
    } catch (error) {
      failures.push(`${suite}: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      rmSync(apt.downloads, { recursive: true, force: true });
    }
  }
  throw new NotAvailable(`${packages[0]}: ${failures.join('; ')}`);
}

/** @returns the code name of the installed Debian, for packages that must fit its libraries; undefined elsewhere */
export function installedSuite(): string | undefined {
  if (!existsSync('/etc/os-release')) return undefined;
  const release = readFileSync('/etc/os-release', 'utf8');
  return /^ID=debian$/m.test(release) ? /^VERSION_CODENAME=(\S+)$/m.exec(release)?.[1] : undefined;
}

function aptSource(): { uri: string; signedBy: string | undefined } {
  const deb822 = '/etc/apt/sources.list.d/debian.sources';
  if (existsSync(deb822)) {
    const text = readFileSync(deb822, 'utf8');
    const uri = /^URIs:\s*(\S+)/m.exec(text)?.[1];
    if (uri !== undefined) return { uri, signedBy: /^Signed-By:\s*(\/\S+)/m.exec(text)?.[1] };
  }
  const classic = '/etc/apt/sources.list';
  if (existsSync(classic)) {
    const uri = /^deb\s+(?:\[[^\]]*\]\s*)?(\S+)/m.exec(readFileSync(classic, 'utf8'))?.[1];
    if (uri !== undefined) return { uri, signedBy: undefined };
  }
  throw new NotAvailable('no Debian package source is configured on this machine');
}

/** apt with lists, cache and status of its own. */
class PrivateApt {
  readonly downloads: string;
  readonly #options: string[];

  constructor(
    directory: string,
    { uri, signedBy, suite }: { uri: string; signedBy: string | undefined; suite: string },
  ) {
    this.downloads = join(directory, `downloads-${process.pid}`);
    mkdirSync(join(directory, 'lists/partial'), { recursive: true });
    mkdirSync(join(directory, 'cache/archives/partial'), { recursive: true });
    mkdirSync(this.downloads, { recursive: true });
    const list = join(directory, 'sources.list');
    writeFileSync(list, `deb ${signedBy === undefined ? '' : `[signed-by=${signedBy}] `}${uri} ${suite} main\n`);
    this.#options = [
      `Dir::Etc::SourceList=${list}`,
      'Dir::Etc::SourceParts=-',
      `Dir::State::Lists=${join(directory, 'lists')}`,
      `Dir::Cache=${join(directory, 'cache')}`,
      'Dir::State::status=/dev/null',
      'APT::Sandbox::User=root',
    ].flatMap((option) => ['-o', option]);
  }

  run(program: 'apt-get' | 'apt-cache', args: readonly string[]): string {
    return execFileSync(program, [...this.#options, ...args], { cwd: this.downloads, encoding: 'utf8', stdio: 'pipe' });
  }

  /** @returns the versions that the suite offers, newest first */
  versionsOf(name: string): string[] {
    const lines = this.run('apt-cache', ['madison', name]).split('\n');
    return lines.map((line) => line.split('|')[1]?.trim() ?? '').filter((version) => version !== '');
  }
}
