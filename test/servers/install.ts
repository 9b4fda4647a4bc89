/**
 * `npm run servers [name …]`: installs the S3 servers that the tests run on into the cache, those that are not there yet.
 * Go modules are compiled, which takes minutes, at the lowest priority.
 *
 * Each is made under a temporary name and then renamed, so a server that is there is whole.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import {
  findServerProgram,
  type ServerName,
  type ServerProgram,
  serverDirectory,
  serverNames,
  serverPrograms,
} from './server-programs.ts';

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !serverNames.some((known) => known === name));
if (unknown.length > 0) {
  process.stderr.write(`No server ${unknown.join(', ')}. There are: ${serverNames.join(', ')}\n`);
  process.exitCode = 2;
} else {
  setPriority(constants.priority.PRIORITY_LOW);
  // What is quick comes first, so that a start that is interrupted leaves most.
  for (const name of [...serverNames].reverse()) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    try {
      install(name);
    } catch (error) {
      process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
      process.exitCode = 1;
    }
  }
}

function install(name: ServerName): void {
  if (findServerProgram(name) !== undefined) {
    process.stdout.write(`${name}: is there\n`);
    return;
  }
  const program = serverPrograms[name];
  const target = serverDirectory(name);
  const partial = `${target}.partial-${process.pid}`;
  mkdirSync(partial, { recursive: true });
  try {
    process.stdout.write(`${name}: installing ${program.version} …\n`);
    const startedMs = performance.now();
    fill(partial, program);
    if (!existsSync(join(partial, program.file))) throw new Error(`the installation made no ${program.file}`);
    // What stands there holds no program: the rest of something that was removed by hand.
    rmSync(target, { recursive: true, force: true });
    renameSync(partial, target);
    process.stdout.write(`${name}: installed in ${((performance.now() - startedMs) / 1000).toFixed(0)} s\n`);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

function fill(directory: string, { version, from }: ServerProgram): void {
  if (from.kind === 'go') {
    // Outside of any module, so that the versions are those the server's own module names.
    run('go', ['install', '-trimpath', '-ldflags', '-s -w', `${from.module}@${version}`], dirname(directory), {
      CGO_ENABLED: '0',
      GOBIN: directory,
    });
  } else if (from.kind === 'pip') {
    const options = ['--quiet', '--no-deps', '--disable-pip-version-check', '--target', directory];
    run('python3', ['-m', 'pip', 'install', ...options, `${from.project}==${version}`], directory);
  } else {
    writeFileSync(join(directory, 'package.json'), '{ "private": true }\n');
    const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--save-exact'];
    run('npm', ['install', ...options, `${from.name}@${version}`], directory);
  }
}

function run(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): void {
  // What `npm run` tells its children about the outer package must not reach an npm that works on another one.
  const own = Object.entries(process.env).filter(([key]) => !key.startsWith('npm_package_'));
  const { status, signal, error } = spawnSync(command, args, {
    cwd,
    env: { ...Object.fromEntries(own), npm_config_local_prefix: cwd, ...env },
    stdio: ['ignore', 2, 2],
  });
  if (error !== undefined) throw new Error(`${command} cannot be started: ${error.message}`);
  if (status !== 0) throw new Error(`${command} ended with ${signal ?? `exit code ${status}`}`);
}
