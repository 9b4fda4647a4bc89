import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { extractDebianPackages, installedSuite, NotAvailable } from './debian-program.ts';
import type { Command } from './measure.ts';

/**
 * The programs that the benchmark runs, each with compression and encryption on and at its own defaults otherwise.
 *
 * Every repository is fresh, and so is each program's cache and state beside it; making the repository is not timed.
 */
export type ContenderName = 'holdfast' | 'holdfast-level-3' | 'restic' | 'tar' | 'borg';
export type PeerName = 'restic' | 'tar' | 'borg';

export const peerNames: readonly PeerName[] = ['restic', 'tar', 'borg'];

/** Where the repositories are: in directories, or on an S3 server of the benchmark's own. */
export type StoreKind = 'file' | 's3';

export const storeKinds: readonly StoreKind[] = ['file', 's3'];

/** Where one contender keeps everything of one round. */
export interface Place {
  /** A directory of its own for keys, caches, state and the repository; exists already. */
  readonly base: string;
  /** Holds the repository in place of a directory in `base`. */
  readonly bucket?: Bucket;
}

/** A bucket of an S3 server; making the repository makes it. */
export interface Bucket {
  readonly name: string;
  /** URL that the programs are given: the server, or something in front of it. */
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Where the server keeps what is in it. */
  readonly directory: string;
}

export interface Contender {
  readonly name: ContenderName;
  readonly version: string;
  /** Settings that a reader must know to judge the figures. */
  readonly settings: string;
  /** A second save that needs only the changes; absent where the program has none. */
  readonly incremental: boolean;
  /** What counts as stored: a directory or file in `place`, or what the server keeps of the bucket. */
  repository(place: Place): string;
  /** Makes the repository and whatever the commands need. Not timed. */
  init(place: Place): void;
  save(place: Place, source: string): Command;
  /** @param target does not exist, its parent does */
  restore(place: Place, target: string): Command;
  /** A restore that brings back what the globs match before the rest, and tells when; absent where the program cannot. */
  readonly restoreFirst?: {
    command(place: Place, target: string, globs: readonly string[]): Command;
    /** @returns that moment as a share of the run's wall time, which was measured from outside */
    share(output: string, wallSeconds: number): number;
  };
}

const passphrase = 'correct horse battery staple';

function environment(place: Place, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const { bucket } = place;
  const credentials = bucket && {
    AWS_ACCESS_KEY_ID: bucket.accessKeyId,
    AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  return {
    ...credentials,
    PATH: process.env['PATH'] ?? '/usr/bin:/bin',
    HOME: place.base,
    XDG_CACHE_HOME: join(place.base, 'cache'),
    XDG_STATE_HOME: join(place.base, 'state'),
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    ...more,
  };
}

function repositoryOf({ base, bucket }: Place): string {
  return bucket?.directory ?? join(base, 'repository');
}

function runOnce({ argv: [program, ...args], cwd, env }: Command): string {
  return execFileSync(program, args, { cwd, env: { ...env }, encoding: 'utf8', stdio: 'pipe', maxBuffer: 1 << 26 });
}

/**
 * @param program path of the command line
 * @param level zstd level; undefined leaves the default, which is 1
 * @param store says when a checkpoint is committed: synced in a directory, acknowledged by a server
 * @throws NotAvailable when the program is not there or does not start
 */
export function holdfast(
  program: string,
  { level, store: kind = 'file' }: { level?: number; store?: StoreKind } = {},
): Contender {
  if (!existsSync(program)) throw new NotAvailable(`${program} does not exist`);
  const version = versionOf(program, ['--version']);
  const store = (place: Place): string[] => [
    '--store',
    place.bucket === undefined
      ? `file:${repositoryOf(place)}`
      : `s3://${place.bucket.name}?endpoint=${place.bucket.endpoint}`,
    '--key-file',
    join(place.base, 'key'),
  ];
  const lineage = (place: Place): string[] => [...store(place), '--lineage', 'bench/data/0', '--output', 'json'];
  return {
    name: level === undefined ? 'holdfast' : 'holdfast-level-3',
    version,
    settings: `encryption and zstd level ${level ?? 1}, all metadata, ${kind === 's3' ? 'create-only writes' : 'fsync before commit'}`,
    incremental: true,
    repository: repositoryOf,
    init(place) {
      runOnce({ argv: [program, 'init', ...store(place)], cwd: place.base, env: environment(place) });
    },
    save: (place, source) => ({
      argv: [
        program,
        'checkpoint',
        source,
        ...lineage(place),
        ...(level === undefined ? [] : ['--level', String(level)]),
      ],
      cwd: place.base,
      env: environment(place),
    }),
    restore: (place, target) => ({
      argv: [program, 'restore', ...lineage(place), '--target', target],
      cwd: place.base,
      env: environment(place),
    }),
    restoreFirst: {
      command: (place, target, globs) => ({
        argv: [
          program,
          'restore',
          ...lineage(place),
          '--target',
          target,
          ...globs.flatMap((glob) => ['--first', glob]),
        ],
        cwd: place.base,
        env: environment(place),
      }),
      share: firstShare,
    },
  };
}

/** Both moments stand in the output; starting the process and ending it counts too, and lies before the first of them. */
export function firstShare(output: string, wallSeconds: number): number {
  const events = output.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
  const first = events.find(({ event }) => event === 'first-complete');
  const whole = events.find(({ event }) => event === undefined);
  if (first === undefined || whole === undefined)
    throw new Error('the restore did not say when the first were complete');
  if (!(first.files > 0)) throw new Error('nothing was restored first');
  return (wallSeconds - (whole.seconds - first.seconds)) / wallSeconds;
}

/** @throws NotAvailable when restic cannot be had */
export function restic({ program, cacheDir, say }: PeerSource): Contender {
  const path =
    program ??
    join(extractDebianPackages(['restic=0.19.1'], { suites: ['forky', 'sid'], cacheDir, say }), 'usr/bin/restic');
  const version = versionOf(path, ['version']);
  const command = (place: Place, args: readonly string[], cwd = place.base): Command => ({
    argv: [
      path,
      '--quiet',
      '--repo',
      place.bucket === undefined ? repositoryOf(place) : `s3:${place.bucket.endpoint}/${place.bucket.name}`,
      ...args,
    ],
    cwd,
    env: environment(place, { RESTIC_PASSWORD_FILE: join(place.base, 'password') }),
  });
  return {
    name: 'restic',
    version,
    settings: 'repository v2, encryption, compression auto (its default), its cache on and fresh per repository',
    incremental: true,
    repository: repositoryOf,
    init(place) {
      writeFileSync(join(place.base, 'password'), passphrase, { mode: 0o600 });
      runOnce(command(place, ['init']));
    },
    // Saved as `.` from inside, so that a restore gives the tree itself and not its absolute path.
    save: (place, source) => command(place, ['backup', '--host', 'bench', '.'], source),
    restore: (place, target) => command(place, ['restore', 'latest', '--target', target]),
  };
}

/** `tar | zstd -1 | openssl`: no deduplication, no second save, no verification; the floor of what must be read and written. */
export function tar(): Contender {
  for (const tool of ['tar', 'zstd', 'openssl']) {
    try {
      execFileSync('sh', ['-c', `command -v ${tool}`], { stdio: 'pipe' });
    } catch (error) {
      throw new NotAvailable(`${tool} is not installed`, { cause: error });
    }
  }
  const cipher = 'openssl enc -aes-256-ctr -pbkdf2 -pass file:"$BASE/password"';
  const shell = (place: Place, script: string, argument: string): Command => ({
    argv: ['bash', '-o', 'pipefail', '-ec', script, 'bench', argument],
    cwd: place.base,
    env: environment(place, { BASE: place.base }),
  });
  return {
    name: 'tar',
    version: versionOf('zstd', ['--version']).replace(/^.*v(\d[\d.]*).*$/s, 'zstd $1'),
    settings: '`tar | zstd -1 | openssl enc -aes-256-ctr`, no fsync',
    incremental: false,
    repository: (place) => join(place.base, 'repository'),
    init(place) {
      mkdirSync(join(place.base, 'repository'));
      writeFileSync(join(place.base, 'password'), passphrase, { mode: 0o600 });
    },
    save: (place, source) =>
      shell(place, `tar -C "$1" --xattrs -cf - . | zstd -1 -q | ${cipher} > "$BASE/repository/archive"`, source),
    restore: (place, target) =>
      shell(
        place,
        `mkdir "$1"; ${cipher} -d -in "$BASE/repository/archive" | zstd -dq | tar -C "$1" --xattrs -xpf -`,
        target,
      ),
  };
}

/** Borg as the installed Debian has it. @throws NotAvailable when it cannot be had */
export function borg({ program, cacheDir, say }: PeerSource): Contender {
  const { path, libraries } = program === undefined ? debianBorg(cacheDir, say) : { path: program, libraries: {} };
  const version = versionOf(path, ['--version'], libraries);
  const command = (place: Place, args: readonly string[], cwd = place.base): Command => ({
    argv: [path, ...args],
    cwd,
    env: environment(place, {
      ...libraries,
      BORG_PASSPHRASE: passphrase,
      BORG_REPO: join(place.base, 'repository'),
      BORG_CACHE_DIR: join(place.base, 'cache'),
      BORG_CONFIG_DIR: join(place.base, 'config'),
    }),
  });
  let saves = 0;
  const lastArchive = new Map<string, string>();
  return {
    name: 'borg',
    version,
    settings: 'repokey-blake2 encryption, zstd,1',
    incremental: true,
    repository: (place) => join(place.base, 'repository'),
    init(place) {
      runOnce(command(place, ['init', '--encryption', 'repokey-blake2']));
    },
    save(place, source) {
      saves += 1;
      const archive = `save-${saves}`;
      lastArchive.set(place.base, archive);
      return command(place, ['create', '--compression', 'zstd,1', `::${archive}`, '.'], source);
    },
    restore: (place, target) => ({
      ...command(place, []),
      argv: [
        'sh',
        '-ec',
        'mkdir "$1"; cd "$1"; exec "$2" extract "$3"',
        'bench',
        target,
        path,
        `::${lastArchive.get(place.base)}`,
      ],
    }),
  };
}

export interface PeerSource {
  /** A binary chosen by the user; undefined fetches the Debian package into the cache. */
  readonly program?: string | undefined;
  readonly cacheDir: string;
  readonly say: (line: string) => void;
}

function debianBorg(
  cacheDir: string,
  say: (line: string) => void,
): { path: string; libraries: Record<string, string> } {
  const suite = installedSuite();
  if (suite === undefined) throw new NotAvailable('borg is taken from the packages of a Debian system');
  const root = extractDebianPackages(['borgbackup', 'python3-msgpack', 'python3-packaging', 'libxxhash0', 'libacl1'], {
    suites: [suite],
    cacheDir,
    say,
  });
  const libraries = {
    PYTHONPATH: join(root, 'usr/lib/python3/dist-packages'),
    LD_LIBRARY_PATH: ['x86_64', 'aarch64'].map((machine) => join(root, `usr/lib/${machine}-linux-gnu`)).join(':'),
    // Debian's own interpreter comes first: the package's modules are built for it.
    PATH: `/usr/bin:/bin:${process.env['PATH'] ?? ''}`,
  };
  return { path: join(root, 'usr/bin/borg'), libraries };
}

function versionOf(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  try {
    const output = execFileSync(program, args, { encoding: 'utf8', stdio: 'pipe', env: { ...process.env, ...env } });
    return output.split('\n')[0]?.split(' compiled')[0]?.trim() ?? '';
  } catch (error) {
    throw new NotAvailable(`${program} ${args.join(' ')} does not run`, { cause: error });
  }
}
