import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import type { Host, Output } from '../../src/cli/host.ts';
import {
  namedDirectories,
  type OptionName,
  options,
  parseBytes,
  parseDuration,
  parseOptions,
  variableOf,
} from '../../src/cli/options.ts';
import { formatBytes, formatCount, formatSeconds, printTable } from '../../src/cli/print.ts';
import { showProgress } from '../../src/cli/progress.ts';
import { nearest } from '../../src/engine/model/nearest.ts';
import { run } from '../../src/cli/run.ts';
import { version } from '../../src/cli/version.ts';
import packageJson from '../../package.json' with { type: 'json' };

const some: readonly OptionName[] = ['store', 'lineage', 'level', 'dry-run', 'include', 'key-file'];

function parse(args: readonly string[], env: Record<string, string> = {}): ReturnType<typeof parseOptions> {
  return parseOptions('checkpoint', some, args, env);
}

describe('options', () => {
  it('come from the command line, else from the environment', () => {
    expect(parse([], { HOLDFAST_STORE: 'file:/a' }).required('store')).toBe('file:/a');
    expect(parse(['--store', 'file:/b'], { HOLDFAST_STORE: 'file:/a' }).required('store')).toBe('file:/b');
    expect(parse([], { HOLDFAST_INCLUDE: 'a,b' }).list('include')).toEqual(['a', 'b']);
    expect(parse(['--include=c'], { HOLDFAST_INCLUDE: 'a,b' }).list('include')).toEqual(['c']);
    expect(parse([], { HOLDFAST_DRY_RUN: 'true' }).flag('dry-run')).toBe(true);
    expect(parse([], { HOLDFAST_DRY_RUN: '0' }).flag('dry-run')).toBe(false);
    expect(() => parse([], { HOLDFAST_DRY_RUN: 'maybe' }).flag('dry-run')).toThrow(/not true or false/);
  });

  it.each([
    [['--stor', 'x'], /no option --stor; did you mean --store/],
    [['--passes', '3'], /no option --passes/],
    [['-s', 'x'], /no short options/],
    [['--store'], /store/],
    [['--store', 'a', '--store', 'b'], /--store was given 2 times/],
    [['--key', 'abc'], /secrets do not belong on a command line/],
    [['--password=abc'], /secrets do not belong on a command line/],
    [['--dry-run=yes'], /dry-run/],
  ])('%j is refused with what was meant', (args, message) => {
    expect(() => parse(args)).toThrow(message);
    try {
      parse(args);
    } catch (error) {
      expect(error).toMatchObject({ code: 'E_USAGE' });
      // A secret that was typed must not be printed back.
      expect((error as Error).message).not.toContain('abc');
    }
  });

  it('that are numbers have bounds', () => {
    expect(parse(['--level', '19']).number('level', 1, 19, 1)).toBe(19);
    expect(parse([]).number('level', 1, 19, 1)).toBe(1);
    for (const wrong of ['0', '20', '1.5', '-1', 'x', '', '1e1']) {
      expect(() => parse([`--level=${wrong}`]).number('level', 1, 19, 1), wrong).toThrow(/from 1 to 19/);
    }
  });

  it('that are sizes and durations have units', () => {
    expect(parseDuration('c', 'converge-within', '90s')).toBe(90_000);
    expect(parseDuration('c', 'converge-within', '2h')).toBe(7_200_000);
    expect(parseBytes('c', 'partial-bytes', '64MiB')).toBe(64 * 1024 * 1024);
    expect(parseBytes('c', 'partial-bytes', '5kb')).toBe(5000);
    expect(parseBytes('c', 'partial-bytes', '4096')).toBe(4096);
    for (const wrong of ['', '5', '5 s', '-5s', '5y']) {
      expect(() => parseDuration('c', 'converge-within', wrong)).toThrow(/not a duration/);
    }
    for (const wrong of ['', 'MiB', '-1', '1.5G']) {
      expect(() => parseBytes('c', 'partial-bytes', wrong)).toThrow(/not a size/);
    }
  });

  it('name volumes: a bare directory is data', () => {
    expect(namedDirectories('c', ['/srv/x'])).toEqual([{ name: 'data', path: '/srv/x' }]);
    expect(namedDirectories('c', ['a=x', 'b=y=z', './c=d'])).toEqual([
      { name: 'a', path: 'x' },
      { name: 'b', path: 'y=z' },
      { name: 'data', path: './c=d' },
    ]);
    expect(() => namedDirectories('c', ['a=x', 'a=y'])).toThrow(/given twice/);
    expect(() => namedDirectories('c', ['A=x'])).toThrow(/not a valid name/);
    expect(() => namedDirectories('c', ['a='])).toThrow(/names no directory/);
  });

  it('suggest what is near, and nothing that is far', () => {
    expect(nearest('chekpoint', ['checkpoint', 'cat'])).toBe('checkpoint');
    expect(nearest('xyz', ['checkpoint', 'restore'])).toBeUndefined();
  });

  it('each have a help, and a variable of their own', () => {
    for (const { help } of Object.values(options)) expect(help.length).toBeGreaterThan(10);
    const variables = Object.keys(options).map((name) => variableOf(name as OptionName));
    expect(new Set(variables).size).toBe(variables.length);
    const used = new Set(commands.flatMap((command) => command.options));
    expect(Object.keys(options).filter((name) => name !== 'help' && !used.has(name as OptionName))).toEqual([]);
  });
});

interface Screen extends Output {
  text: string;
}

function screen(isTerminal: boolean): Screen {
  return {
    isTerminal,
    columns: 100,
    colours: false,
    text: '',
    write(text) {
      this.text += String(text);
      return undefined;
    },
  };
}

/** As much of a host as help and errors need. */
function fakeHost(
  env: Record<string, string> = {},
  isTerminal = false,
  columns = 80,
): Host & { stdout: Screen; stderr: Screen } {
  let now = 0;
  const parts = {
    env,
    version,
    stdout: screen(isTerminal),
    stderr: { ...screen(isTerminal), columns },
    signal: new AbortController().signal,
    clock: { nowMs: () => 0, monotonicMs: () => (now += 40), wait: async () => undefined },
  };
  return parts as unknown as Host & { stdout: Screen; stderr: Screen };
}

describe('help', () => {
  it('is there for the program and for every command, in each way of asking', async () => {
    for (const args of [['help'], ['--help'], ['-h']]) {
      const host = fakeHost();
      expect(await run(args, host)).toBe(0);
      for (const { name, summary } of commands) {
        expect(host.stdout.text).toMatch(new RegExp(`^  ${name} +${summary}$`, 'm'));
      }
    }
    for (const { name, examples } of commands) {
      for (const args of [
        ['help', name],
        [name, '--help'],
      ]) {
        const host = fakeHost();
        expect(await run(args, host), args.join(' ')).toBe(0);
        for (const example of examples) expect(host.stdout.text).toContain(example);
        expect(host.stdout.text).toContain('Exit codes:');
        for (const line of host.stdout.text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(140);
      }
    }
  });

  it('comes with exit code 2 where no command was given', async () => {
    const host = fakeHost();
    expect(await run([], host)).toBe(2);
    expect(host.stderr.text).toContain('Usage: holdfast COMMAND');
    expect(host.stdout.text).toBe('');
  });

  it('names the version of the package', async () => {
    const host = fakeHost();
    expect(await run(['version'], host)).toBe(0);
    expect(host.stdout.text).toBe(`holdfast ${packageJson.version}\n`);
  });
});

describe('errors', () => {
  it('are text with a remedy, or one line of JSON, also when the options are wrong', async () => {
    const text = fakeHost();
    expect(await run(['chekpoint'], text)).toBe(2);
    expect(text.stderr.text).toBe(
      'error E_USAGE: there is no command "chekpoint"; did you mean checkpoint?\n  See: holdfast help\n',
    );
    for (const [args, env] of [
      [['ls', '--nope', '--output', 'json'], {}],
      [['ls', '--nope', '--output=json'], {}],
      [['ls', '--nope'], { HOLDFAST_OUTPUT: 'json' }],
    ] as const) {
      const json = fakeHost(env);
      expect(await run(args, json)).toBe(2);
      expect(JSON.parse(json.stderr.text)).toMatchObject({ error: { code: 'E_USAGE', kind: 'settings', exit: 2 } });
      expect(json.stdout.text).toBe('');
    }
  });
});

describe('progress', () => {
  const view = { label: 'reading', files: 50, bytes: 1024, filesTotal: 100, bytesTotal: 0 };

  it('is drawn at a terminal, at most ten times a second, and cleared at the end', () => {
    const host = fakeHost({}, true);
    const progress = showProgress(host, true);
    for (let n = 0; n < 100; n++) progress.update(view);
    progress.end();
    // The clock goes 40 ms from call to call: 4 s altogether.
    const drawn = host.stderr.text.split('\r').length - 2;
    expect(drawn).toBeGreaterThan(20);
    expect(drawn).toBeLessThanOrEqual(41);
    expect(host.stderr.text).toContain('50 % ');
    expect(host.stderr.text.endsWith('\r\x1b[2K')).toBe(true);
    expect(host.stdout.text).toBe('');
  });

  it('tells files, bytes, rate and time left on 80 columns too: the bar is what gives way', () => {
    for (const columns of [80, 100, 60]) {
      const host = fakeHost({}, true, columns);
      const progress = showProgress(host, true);
      const long = { label: 'looking for changes', files: 1_234_567, bytes: 123 * 2 ** 30, filesTotal: 0 };
      for (let n = 0; n < 100; n++) progress.update({ ...long, bytesTotal: 200 * 2 ** 30 });
      const lines = host.stderr.text.split('\r\x1b[2K').map((line) => stripVTControlCharacters(line));
      const line = lines.at(-1) ?? '';
      expect(line.length, line).toBeLessThan(columns);
      if (columns > 60) expect(line).toMatch(/61 % {2}1,234,567 files {2}123 GiB {2}[\d.]+ GiB\/s {2}[\d.]+ s left$/);
      expect(line.includes('█'), line).toBe(columns > 80);
      progress.end();
    }
    const host = fakeHost({}, true, 80);
    const progress = showProgress(host, true);
    for (let n = 0; n < 100; n++) {
      progress.update({
        label: 'reading',
        files: 18_000,
        bytes: 304 * 2 ** 20,
        filesTotal: 0,
        bytesTotal: 343 * 2 ** 20,
      });
    }
    expect(stripVTControlCharacters(host.stderr.text)).toMatch(/reading {2}█+░+ 88 % {2}18,000 files.* left\r?$/);
  });

  it('is never drawn into a pipe', () => {
    const host = fakeHost({}, false);
    const progress = showProgress(host, true);
    for (let n = 0; n < 100; n++) progress.update(view);
    progress.end();
    expect(host.stderr.text).toBe('');
  });
});

describe('what people read', () => {
  it('sizes, counts and times', () => {
    expect([0, 1023, 1024, 1536, 52_428_800, 2 ** 40].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1.00 KiB',
      '1.50 KiB',
      '50.0 MiB',
      '1.00 TiB',
    ]);
    expect([0, 999, 1000, 1234567].map(formatCount)).toEqual(['0', '999', '1,000', '1,234,567']);
    expect([0.123, 61, 179.7, 3599, 7260].map(formatSeconds)).toEqual([
      '0.12 s',
      '61.0 s',
      '3 min 0 s',
      '59 min 59 s',
      '2 h 1 min',
    ]);
  });

  it('tables with numbers to the right', () => {
    const output = screen(false);
    printTable(output, [
      ['NAME', 'SIZE'],
      ['a', '1.00 KiB'],
      ['long', '5 B'],
    ]);
    expect(output.text).toBe('NAME      SIZE\na     1.00 KiB\nlong       5 B\n');
  });
});
