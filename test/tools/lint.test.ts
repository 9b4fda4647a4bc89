import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const checkout = join(import.meta.dirname, '../..');
const biome = join(checkout, 'node_modules/@biomejs/biome/bin/biome');
let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'holdfast-lint-'));
  copyFileSync(join(checkout, 'biome.json'), join(root, 'biome.json'));
  copyFileSync(join(checkout, '.gitignore'), join(root, '.gitignore'));
  cpSync(join(checkout, 'tools/biome'), join(root, 'tools/biome'), { recursive: true });
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

/** What the linter says about the planted files, as `path:line rule: message and advice`. */
function lint(files: Readonly<Record<string, string>>): { code: number | null; said: string } {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [biome, 'lint', '--error-on-warnings', '--colors=off', '--max-diagnostics=none'],
    { cwd: root, encoding: 'utf8' },
  );
  return { code: status, said: stdout + stderr };
}

describe('in the engine', () => {
  const clock = 'src/engine/ports/clock.ts';
  const ports = 'src/engine/ports';
  const refused: Record<string, [text: string, wayOut: string]> = {
    'Date.now': ['export const x: number = Date.now();', clock],
    'new Date': ['export const x: unknown = new Date();', clock],
    'Date called': ['export const x: string = Date();', clock],
    'Date by another name': ['const { now } = Date;\nexport const x: number = now();', clock],
    'globalThis.Date': ['export const x: number = globalThis.Date.now();', ports],
    'globalThis by index': ["export const x: unknown = globalThis['Date'];", ports],
    performance: ['export const x: number = performance.now();', clock],
    setTimeout: ['setTimeout(() => {}, 1);', clock],
    setInterval: ['setInterval(() => {}, 1);', clock],
    setImmediate: ['setImmediate(() => {});', clock],
    'AbortSignal.timeout': ['export const x: unknown = AbortSignal.timeout(1);', ports],
    'Math.random': ['export const x: number = Math.random();', ports],
    'Math by index': ["export const x: number = Math['random']();", ports],
    'Math by another name': ['const { random } = Math;\nexport const x: number = random();', ports],
    'the Web Crypto API': ['export const x: string = crypto.randomUUID();', 'src/engine/ports/random.ts'],
    process: ["export const x: unknown = process.env['HOME'];", ports],
    console: ["console.log('hello');", ports],
    fetch: ["export const x: unknown = fetch('https://example.com');", ports],
  };
  it.each(Object.entries(refused))('%s is refused, and the message names the way out', (_, [text, wayOut]) => {
    const { code, said } = lint({ 'src/engine/tree/build.ts': `${text}\n` });
    expect(code).toBe(1);
    expect(said).toContain('src/engine/tree/build.ts:');
    expect(said).toContain(wayOut);
  });

  it('what is deterministic is allowed, and so are locals of the same name', () => {
    const text = [
      'export const size: number = Math.max(1, Math.ceil(2.5));',
      'export function wait(setTimeout: () => void, signal: AbortSignal): void {',
      '  signal.throwIfAborted();',
      '  queueMicrotask(setTimeout);',
      '}',
    ].join('\n');
    expect(lint({ 'src/engine/tree/build.ts': `${text}\n` })).toMatchObject({ code: 0 });
  });
});

it('outside of the engine, time and chance are allowed', () => {
  const text = 'export const x: number = Date.now() + Math.random() + performance.now();\n';
  expect(lint({ 'src/edge/host/clock.ts': text })).toMatchObject({ code: 0 });
});

describe('everywhere', () => {
  const refused: Record<string, [files: Record<string, string>, rule: string]> = {
    'a circle of imports': [
      {
        'src/edge/host/a.ts': "import { b } from './b.ts';\nexport const a = (): number => b();\n",
        'src/edge/host/b.ts': "import { a } from './a.ts';\nexport const b = (): number => a();\n",
      },
      'noImportCycles',
    ],
    'a barrel file': [{ 'src/edge/host/all.ts': "export * from './a.ts';\n" }, 'noReExportAll'],
    any: [{ 'src/edge/host/a.ts': 'export const a: any = 1;\n' }, 'noExplicitAny'],
    'an enum': [{ 'src/edge/host/a.ts': 'export enum A {\n  B,\n}\n' }, 'noEnum'],
    'a name that is not kebab-case': [
      { 'src/edge/host/FileTree.ts': 'export const a = 1;\n' },
      'useFilenamingConvention',
    ],
    'a default export in src': [{ 'src/edge/host/a.ts': 'const a = 1;\nexport default a;\n' }, 'noDefaultExport'],
    'a test that runs alone': [
      { 'test/a.test.ts': "import { it } from 'vitest';\nit.only('a', () => {});\n" },
      'noFocusedTests',
    ],
  };
  it.each(Object.entries(refused))('%s is refused', (_, [files, rule]) => {
    const { code, said } = lint(files);
    expect(code).toBe(1);
    expect(said).toContain(rule);
  });
});
