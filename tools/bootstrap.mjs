// Brings a checkout from `git clone` to a state in which its tasks can run: a Node that is new enough, the packages of
// the lock file, and the compiled sources. Plain JavaScript without packages, because it runs before any of them exist,
// on whatever Node the machine has (20 or newer).
//
// What holds here:
// - Each step is skipped when its stamp equals the hash of its input, so a start with nothing to do costs milliseconds.
// - A stamp lies inside what it vouches for and is written last: a step that was killed has no stamp and is done again.
// - Steps run under a lock, one start at a time; the lock of a dead process is taken over.
// - Install scripts of packages never run.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The oldest Node that the sources run on, and the oldest that can run this file. */
export const NODE_MAJOR_MIN = 26;
const BOOTSTRAP_NODE_MAJOR_MIN = 20;

/** The root of the checkout this file stands in. */
export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** Something the person at the keyboard can mend; `message` says how. */
export class BootstrapError extends Error {}

/**
 * Makes the checkout ready: Node, packages and, unless `build` is false, `dist/`.
 *
 * @param {{ build?: boolean, root?: string }} [options]
 * @returns {Promise<{ node: string, env: NodeJS.ProcessEnv }>} the Node to run tasks with, and an environment in which it
 *   stands first in PATH
 */
export async function prepare({ build = true, root = ROOT } = {}) {
  if (majorOf(process.version) < BOOTSTRAP_NODE_MAJOR_MIN) {
    throw new BootstrapError(
      `Node ${process.version} is too old. Install Node ${BOOTSTRAP_NODE_MAJOR_MIN} or newer with npm, then run this again.`,
    );
  }
  const steps = [stepRuntime, stepPackages, ...(build ? [stepBuild] : [])];
  if (!steps.every((step) => step(root).done())) {
    await withLock(join(root, 'tools', 'runtime', '.lock'), () => {
      for (const step of steps) {
        const { done, run } = step(root);
        if (!done()) run();
      }
    });
  }
  const node = nodeFor(root);
  return { node, env: environmentFor(node) };
}

/** The Node that tasks run on: the system's where it is new enough, else the one that `tools/runtime` holds. */
export function nodeFor(root = ROOT) {
  if (majorOf(process.version) >= NODE_MAJOR_MIN) return process.execPath;
  return join(root, 'tools', 'runtime', 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
}

// ---------------------------------------------------------------------------------------------------------------------
// Steps: each says whether it is done, and does it.

function stepRuntime(root) {
  const dir = join(root, 'tools', 'runtime');
  const stamp = join(dir, 'node_modules', '.stamp');
  const want = () => hashOf([machine(), readFileSync(join(dir, 'package-lock.json'))]);
  if (nodeFor(root) === process.execPath) return { done: () => true, run: () => {} };
  return {
    done: () => readText(stamp) === want() && existsSync(nodeFor(root)),
    run: () => {
      const lock = JSON.parse(readFileSync(join(dir, 'package-lock.json'), 'utf8'));
      const packageName = `node-${process.platform}-${process.arch}`;
      if (lock.packages[`node_modules/${packageName}`] === undefined) {
        throw new BootstrapError(
          `Holdfast needs Node ${NODE_MAJOR_MIN} or newer and found ${process.version}; for ${process.platform} on ` +
            `${process.arch} none comes with the checkout. Install it (https://nodejs.org/), then run this again.`,
        );
      }
      say(`installing Node ${lock.version} (the system has ${process.version})`);
      npmCi({ cwd: dir, node: process.execPath, env: process.env });
      checkNodeCame(nodeFor(root), packageName);
      checkNodeRuns(nodeFor(root));
      writeFileSync(stamp, want());
    },
  };
}

function stepPackages(root) {
  const stamp = join(root, 'node_modules', '.stamp');
  const want = () => hashOf([machine(), readFileSync(join(root, 'package-lock.json'))]);
  return {
    done: () => readText(stamp) === want(),
    run: () => {
      say('installing packages');
      const node = nodeFor(root);
      npmCi({ cwd: root, node, env: environmentFor(node) });
      writeFileSync(stamp, want());
    },
  };
}

function stepBuild(root) {
  const dist = join(root, 'dist');
  const stamp = join(dist, '.stamp');
  const sources = () => filesBelow(root, 'src').filter((path) => path.endsWith('.ts'));
  const settings = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json'];
  const want = (paths) => hashOf([...settings, ...paths].flatMap((path) => [path, readFileSync(join(root, path))]));
  return {
    done: () => {
      const paths = sources();
      return paths.length === 0 || readText(stamp) === want(paths);
    },
    run: () => {
      say('compiling');
      // The hash is taken before the compiler reads, so a file saved meanwhile makes the next start compile again.
      const hash = want(sources());
      // Compiled beside `dist` and swapped in whole: a running process never meets half of an old and half of a new build,
      // and a file whose source is gone does not stay behind.
      const fresh = join(root, `dist.${process.pid}.new`);
      const stale = join(root, `dist.${process.pid}.old`);
      try {
        const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
        runOrThrow(nodeFor(root), [tsc, '-p', 'tsconfig.build.json', '--outDir', fresh], {
          cwd: root,
          env: environmentFor(nodeFor(root)),
          failure: 'The sources do not compile.',
        });
        writeFileSync(join(fresh, '.stamp'), hash);
        if (existsSync(dist)) renameSync(dist, stale);
        renameSync(fresh, dist);
      } finally {
        rmSync(fresh, { recursive: true, force: true });
        rmSync(stale, { recursive: true, force: true });
      }
    },
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Node and npm

/** Fails when npm left the Node at `path` out: it is optional, and npm says nothing of an optional package that it cannot get. */
export function checkNodeCame(path, packageName) {
  if (existsSync(path)) return;
  throw new BootstrapError(
    `npm did not install ${packageName}. Most often it cannot be downloaded: check the network, the proxy and the registry ` +
      `with \`npm view ${packageName} version\`, then run this again. Or install Node ${NODE_MAJOR_MIN} or newer (https://nodejs.org/).`,
  );
}

/** Fails with the remedy when the Node at `path` does not start: it needs glibc, libstdc++ and libatomic. */
export function checkNodeRuns(path) {
  const result = spawnSync(path, ['-v'], { encoding: 'utf8' });
  if (result.status === 0) return;
  const said = (result.error?.message ?? result.stderr ?? '').trim();
  throw new BootstrapError(
    `The installed Node does not start: ${said}\n` +
      'It needs the GNU C library and the libraries libatomic1 and libstdc++6. On Debian and Ubuntu: ' +
      '`apt-get install libatomic1 libstdc++6`; on Fedora: `dnf install libatomic libstdc++`. ' +
      `Where there is no GNU C library (Alpine), install Node ${NODE_MAJOR_MIN} or newer from the distribution.`,
  );
}

/** `npm ci` in `cwd` under `node`, with everything the lock file names and without install scripts. */
function npmCi({ cwd, node, env }) {
  // `--include` outranks NODE_ENV=production and an `omit` in the user's settings, without which no compiler would come.
  const args = ['ci', '--include=dev', '--include=optional', '--ignore-scripts', '--no-audit', '--no-fund'];
  const npmCli = findNpmCli();
  const [command, prefix] = npmCli === undefined ? ['npm', []] : [node, [npmCli]];
  const cache = temporaryCache(env);
  try {
    runOrThrow(command, [...prefix, ...args, ...(cache === undefined ? [] : ['--cache', cache])], {
      cwd,
      env: withoutPackageVariables(env),
      failure: `npm could not install the packages of ${join(cwd, 'package-lock.json')}.`,
    });
  } finally {
    if (cache !== undefined) rmSync(cache, { recursive: true, force: true });
  }
}

/** A directory for npm's cache where its own cannot be written, as for a user without a home: npm gets nothing without one. */
export function temporaryCache(env) {
  const own = env['npm_config_cache'] ?? join(env['HOME'] ?? homedir(), '.npm');
  try {
    mkdirSync(own, { recursive: true });
    accessSync(own, constants.W_OK);
    return undefined;
  } catch {
    return mkdtempSync(join(tmpdir(), 'holdfast-npm-'));
  }
}

/** npm's own script, so that it can run under another Node than its own; undefined where `npm` is not a link to it. */
function findNpmCli() {
  const fromNpm = process.env['npm_execpath'];
  if (fromNpm !== undefined && basename(fromNpm) === 'npm-cli.js') return fromNpm;
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(dir, 'npm');
    if (!existsSync(path)) continue;
    const target = realpathSync(path);
    return basename(target) === 'npm-cli.js' ? target : undefined;
  }
  throw new BootstrapError('npm is missing. Install it beside Node, then run this again.');
}

/** What `npm run` tells its children about the outer package must not reach an npm that works on another one. */
function withoutPackageVariables(env) {
  const outer = /^npm_(package|lifecycle)_|^npm_(command|config_local_prefix)$/;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !outer.test(name)));
}

function environmentFor(node) {
  return { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env['PATH'] ?? ''}` };
}

function majorOf(version) {
  return Number(/^v(\d+)\./.exec(version)?.[1] ?? 0);
}

/** What decides which optional packages are the right ones: a checkout may be mounted into another kind of machine. */
function machine() {
  const libc = process.platform === 'linux' && !existsSync('/etc/alpine-release') ? 'glibc' : 'other';
  return `${process.platform}-${process.arch}-${libc}`;
}

// ---------------------------------------------------------------------------------------------------------------------
// The lock

/**
 * Runs `body` while no other process holds the lock file `path`, and waits for one that does.
 *
 * The file holds the owner's pid and start time and appears whole, by link(2). A dead owner's file is renamed away before
 * it is replaced; whoever finds that it renamed a living owner's file, because another waiter was quicker, puts it back.
 *
 * @template T
 * @param {string} path
 * @param {() => T | Promise<T>} body
 * @returns {Promise<T>}
 */
export async function withLock(path, body) {
  const mine = `${path}.${process.pid}`;
  const owner = `${process.pid} ${startTimeOf(process.pid)}`;
  let waited = false;
  writeFileSync(mine, owner);
  try {
    while (!tryLink(mine, path)) {
      const holder = readText(path);
      if (holder === undefined) continue;
      if (isAlive(holder)) {
        if (!waited) say(`waiting for process ${holder.split(' ')[0]}, which is preparing this checkout`);
        waited = true;
        await new Promise((resolve) => setTimeout(resolve, 200));
        continue;
      }
      const aside = `${mine}.stale`;
      if (!tryRename(path, aside)) continue;
      if (readText(aside) !== holder) tryLink(aside, path);
      unlinkSync(aside);
    }
  } finally {
    unlinkSync(mine);
  }
  try {
    return await body();
  } finally {
    if (readText(path) === owner) unlinkSync(path);
  }
}

function isAlive(holder) {
  const [pid, startTime] = holder.split(' ');
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (error.code === 'ESRCH') return false;
  }
  // After a reboot, or in another container, the same number can be another process.
  return startTime === startTimeOf(pid);
}

/** When the process began, in a form that two reads agree on; `-` where the system does not say. */
function startTimeOf(pid) {
  const stat = readText(`/proc/${pid}/stat`);
  if (stat === undefined) return '-';
  // Field 22, counted after the command in parentheses, which may itself hold spaces and parentheses.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '-';
}

// ---------------------------------------------------------------------------------------------------------------------
// Files and processes

function runOrThrow(command, args, { cwd, env, failure }) {
  // What these commands print is about the preparation, so it goes to stderr: stdout belongs to the task.
  const result = spawnSync(command, args, { cwd, env, stdio: ['ignore', 2, 2] });
  if (result.error !== undefined) throw new BootstrapError(`${failure} ${result.error.message}`);
  if (result.status !== 0) {
    throw new BootstrapError(`${failure} It ended with ${result.signal ?? `exit code ${result.status}`}.`);
  }
}

/** All files below `root/dir`, as paths relative to `root`, sorted. */
function filesBelow(root, dir) {
  const top = join(root, dir);
  if (!existsSync(top)) return [];
  const found = [];
  for (const name of readdirSync(top).sort()) {
    const path = join(dir, name);
    if (lstatSync(join(root, path)).isDirectory()) found.push(...filesBelow(root, path));
    else if (statSync(join(root, path), { throwIfNoEntry: false })?.isFile()) found.push(path);
  }
  return found;
}

function hashOf(parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest('hex');
}

function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return undefined;
    throw error;
  }
}

function tryLink(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function tryRename(from, to) {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (error.code === 'ENOENT') return false;
    throw error;
  }
}

function say(text) {
  process.stderr.write(`holdfast: ${text}\n`);
}
