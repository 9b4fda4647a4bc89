/** podman with a storage of its own, outside of the checkout and beside nothing that the machine has, and the base image of the tests. */
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

const checkout = join(import.meta.dirname, '../..');
/** Looks like the one that the Dockerfile builds on: Debian, Node 26, npm. No registry of images is asked for it. */
export const baseImage = 'localhost/holdfast-test-base:26-bookworm';

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Podman implements Disposable {
  readonly #scratch: string = mkdtempSync(join(tmpdir(), 'holdfast-podman-'));
  readonly #cache: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor() {
    const cache = process.env['XDG_CACHE_HOME'];
    this.#cache = join(cache?.startsWith('/') ? cache : join(homedir(), '.cache'), 'holdfast-test', 'images');
    mkdirSync(this.#cache, { recursive: true });
    // Limits that a container inside of a container may not raise.
    writeFileSync(
      join(this.#scratch, 'containers.conf'),
      '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\noom_score_adj = 0\n' +
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n',
    );
    this.#env = { ...process.env, CONTAINERS_CONF: join(this.#scratch, 'containers.conf') };
  }

  [Symbol.dispose](): void {
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  #arguments(args: readonly string[]): string[] {
    // A storage belongs to one such directory for good, which a reboot has to clear.
    const running = join(tmpdir(), `holdfast-test-podman-${process.getuid?.() ?? 0}`);
    return ['--root', join(this.#cache, 'storage'), '--runroot', running, ...args];
  }

  run(...args: readonly string[]): Ran {
    const { status, stdout, stderr, error } = spawnSync('podman', this.#arguments(args), {
      env: this.#env,
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
    if (error !== undefined) throw new Error(`podman cannot be started: ${error.message}`);
    return { code: status, stdout, stderr };
  }

  /** Throws with what it printed when it fails. */
  must(...args: readonly string[]): string {
    const { code, stdout, stderr } = this.run(...args);
    if (code !== 0) throw new Error(`podman ${args.join(' ')} ended with ${code}:\n${stdout}\n${stderr}`);
    return stdout.trim();
  }

  start(...args: readonly string[]): ChildProcessByStdio<null, Readable, Readable> {
    return spawn('podman', this.#arguments(args), { env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Builds the Dockerfile of the checkout as it is documented, on the base of the tests. */
  build(tag: string): void {
    this.#makeBase();
    const { npmrc, certificates } = npmSettings(this.#scratch);
    this.must(
      ...['build', '--pull=never', '--network=host', '--build-arg', `NODE_IMAGE=${baseImage}`, '--tag', tag],
      ...['--volume', `${npmrc}:/usr/local/etc/npmrc:ro`],
      ...(certificates === undefined ? [] : ['--volume', `${certificates}:/etc/host-ca.crt:ro`]),
      checkout,
    );
  }

  #makeBase(): void {
    if (this.run('image', 'exists', baseImage).code === 0) return;
    const root = join(this.#scratch, 'base');
    const system = join(this.#scratch, 'system.tar');
    const packages = '--include=ca-certificates,libatomic1,libstdc++6';
    command('mmdebstrap', [
      '--quiet',
      '--variant=minbase',
      packages,
      '--dpkgopt=path-exclude=/usr/share/doc/*',
      'bookworm',
      system,
    ]);
    mkdirSync(root);
    command('tar', ['-C', root, '--exclude=./dev/*', '-xf', system]);
    mkdirSync(join(root, 'usr/local/bin'), { recursive: true });
    cpSync(process.execPath, join(root, 'usr/local/bin/node'));
    command('npm', ['pack', 'npm@11', '--silent', '--pack-destination', this.#scratch]);
    const packed = readdirSync(this.#scratch).find((name) => /^npm-.*\.tgz$/.test(name)) ?? '';
    const npm = join(root, 'usr/local/lib/node_modules/npm');
    mkdirSync(npm, { recursive: true });
    command('tar', ['-C', npm, '--strip-components=1', '-xzf', join(this.#scratch, packed)]);
    symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/local/bin/npm'));
    command('tar', ['-C', root, '-cf', system, '.']);
    this.must('import', '--change', 'ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', system, baseImage);
  }
}

function command(name: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(name, args, { encoding: 'utf8', cwd: tmpdir() });
  if (error !== undefined) throw new Error(`${name} cannot be started: ${error.message}`);
  if (status !== 0) throw new Error(`${name} ended with ${status}:\n${stderr}`);
  return stdout.trim();
}

/** The build asks the same registry of packages as this machine does, and trusts the same certificates. */
function npmSettings(scratch: string): { readonly npmrc: string; readonly certificates: string | undefined } {
  const setting = (name: string): string => command('npm', ['config', 'get', name]);
  const certificates = [setting('cafile'), process.env['NODE_EXTRA_CA_CERTS']].find(
    (path) => path !== undefined && existsSync(path),
  );
  const lines = [`registry=${setting('registry')}`, ...(certificates === undefined ? [] : ['cafile=/etc/host-ca.crt'])];
  const npmrc = join(scratch, 'npmrc');
  writeFileSync(npmrc, `${lines.join('\n')}\n`);
  return { npmrc, certificates };
}
