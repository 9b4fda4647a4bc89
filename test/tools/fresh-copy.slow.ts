import { spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it } from 'vitest';

// A copy of the checkout's scaffolding without anything that was installed or built, and with sources small enough to see
// what becomes of them. The tests are the steps of one story, in this order.

const checkout = join(import.meta.dirname, '../..');
const scaffolding = [
  '.npmrc',
  'bin',
  'package.json',
  'package-lock.json',
  'tools',
  'tsconfig.json',
  'tsconfig.build.json',
];
let root: string;

beforeAll(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'holdfast-copy-')));
  for (const name of scaffolding) {
    cpSync(join(checkout, name), join(root, name), {
      recursive: true,
      filter: (path) => !path.includes('node_modules') && !path.includes('.lock'),
    });
  }
  write(
    'src/cli/main.ts',
    "import { greeting } from './greeting.ts';\nconsole.log(greeting, ...process.argv.slice(2));\n",
  );
  write('src/cli/greeting.ts', "export const greeting: string = 'hello';\n");
});

afterAll(() => {
  rmSync(root, { recursive: true, force: true });
});

function write(path: string, content: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}

/** As a user's shell would have it: without what npm and the test runner add, and without the Node of this checkout. */
function environment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const added = /^(npm_(?!config_)|npm_config_local_prefix$|VITEST|NODE_ENV$|NODE_OPTIONS$|HOLDFAST_)/;
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((dir) => !dir.includes('node_modules'));
  const kept = Object.entries(process.env).filter(([name]) => !added.test(name));
  return { ...Object.fromEntries(kept), PATH: path.join(delimiter), ...extra };
}

interface Ending {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(command: string, args: readonly string[], env = environment(), cwd = root): Promise<Ending> {
  const child = spawn(command, args, { cwd, env });
  const code = new Promise<number | null>((resolve) => child.on('close', resolve));
  return Promise.all([code, text(child.stdout), text(child.stderr)]).then(([code, out, err]) => ({ code, out, err }));
}

it('two first commands at once install once and build once, whatever npm is set to leave out', async () => {
  const env = environment({ NODE_ENV: 'production', npm_config_ignore_scripts: 'true', npm_config_omit: 'dev' });
  const both = await Promise.all([run('npm', ['run', 'build'], env), run('npm', ['run', 'build'], env)]);
  expect(both.map(({ code, err }) => [code, code === 0 ? '' : err])).toEqual([
    [0, ''],
    [0, ''],
  ]);
  const said = both.map(({ err }) => err).join('');
  expect(said.match(/^holdfast: installing packages$/gm)).toHaveLength(1);
  expect(said.match(/^holdfast: compiling$/gm)).toHaveLength(1);
  expect(existsSync(join(root, 'tools/runtime/.lock'))).toBe(false);
});

it('the next command has nothing to do', async () => {
  expect(await run('npm', ['run', '--silent', 'build'])).toEqual({ code: 0, out: '', err: '' });
});

it('the command line runs from anywhere', async () => {
  symlinkSync('bin/holdfast', join(root, 'link'));
  expect(await run(join(root, 'link'), ['a', 'b'], environment(), '/')).toEqual({
    code: 0,
    out: 'hello a b\n',
    err: '',
  });
});

it('the command line builds what is missing, and says so on stderr only', async () => {
  rmSync(join(root, 'dist'), { recursive: true });
  const { code, out, err } = await run('bin/holdfast', ['again']);
  expect({ code, out }).toEqual({ code: 0, out: 'hello again\n' });
  expect(err).toContain('holdfast: compiling');
});

it('a change of the sources is built, and what has lost its source is gone', async () => {
  write('src/cli/main.ts', "console.log('changed');\n");
  rmSync(join(root, 'src/cli/greeting.ts'));
  expect(await run('npm', ['run', 'build'])).toMatchObject({ code: 0, err: expect.stringContaining('compiling') });
  expect(existsSync(join(root, 'dist/cli/greeting.js'))).toBe(false);
  expect(await run('bin/holdfast', [])).toEqual({ code: 0, out: 'changed\n', err: '' });
});

it('sources that do not compile fail with the place, and leave the last build as it was', async () => {
  write('src/cli/main.ts', "const wrong: number = 'text';\nconsole.log(wrong);\n");
  const { code, err } = await run('npm', ['run', 'build']);
  expect(code).toBe(1);
  expect(err).toContain('src/cli/main.ts(1,7): error TS2322');
  expect(err).toContain('The sources do not compile.');
  expect(await run('bin/holdfast', [])).toMatchObject({ code: 0, out: 'changed\n' });
  write('src/cli/main.ts', "console.log('mended');\n");
  expect(await run('npm', ['run', 'build'])).toMatchObject({ code: 0 });
});

it('an installation that was killed is done again', async () => {
  rmSync(join(root, 'node_modules/.stamp'));
  rmSync(join(root, 'node_modules/typescript'), { recursive: true });
  const pid = spawnSync(process.execPath, ['-e', '']).pid;
  writeFileSync(join(root, 'tools/runtime/.lock'), `${pid} 1`);
  write('src/cli/main.ts', "console.log('after the kill');\n");
  expect(await run('bin/holdfast', [])).toMatchObject({ code: 0, out: 'mended\n' });
  expect(await run('npm', ['run', 'build'])).toMatchObject({ code: 0 });
  expect(await run('bin/holdfast', [])).toMatchObject({ code: 0, out: 'after the kill\n' });
});

it('a task passes on arguments, exit code and signals', async () => {
  write(
    'tools/demo/demo.ts',
    "process.on('SIGTERM', () => process.exit(9));\n" +
      "if (process.argv[2] === 'wait') { setInterval(() => {}, 1e6); console.log('waiting'); }\n" +
      'else { console.log(process.argv.slice(2), process.versions.node.split(".")[0]); process.exitCode = 5; }\n',
  );
  const { code, out } = await run('npm', ['run', '--silent', 'demo', '--', '--fast', 'a b']);
  expect(code).toBe(5);
  expect(out).toMatch(/^\[ '--fast', 'a b' \] (2[6-9]|[3-9]\d)\n$/);
  const child = spawn('node', ['tools/run.mjs', 'demo', 'wait'], { cwd: root, env: environment() });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGTERM');
  expect(await ended).toBe(9);
});

it('a task that does not exist, and one whose file is missing, say so', async () => {
  expect(await run('node', ['tools/run.mjs', 'dance'])).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^holdfast: Usage: .*\nTasks: .*\bdemo\b/),
  });
  expect(await run('npm', ['run', 'bench'])).toMatchObject({
    code: 1,
    err: expect.stringContaining('The task bench needs bench/run.ts, which is not there.'),
  });
});

it('the stamps are inside of what they vouch for', () => {
  expect(readFileSync(join(root, 'node_modules/.stamp'), 'utf8')).toMatch(/^[0-9a-f]{64}$/);
  expect(readFileSync(join(root, 'dist/.stamp'), 'utf8')).toMatch(/^[0-9a-f]{64}$/);
});
