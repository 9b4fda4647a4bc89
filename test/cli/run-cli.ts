/** The command line as its users have it: bin/holdfast, in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
export const binary: string = join(root, 'bin', 'holdfast');

export interface Ran {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** A command line to run it under, such as strace's. */
  readonly under?: readonly string[];
  /** Runs this in place of the command line. */
  readonly command?: readonly string[];
  /** Called when it runs. */
  readonly onStart?: (child: ChildProcess) => void;
}

/** Nothing of the caller's own HOLDFAST_* settings reaches a test. */
export function cliEnvironment(env: Readonly<Record<string, string>> = {}): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !name.startsWith('HOLDFAST_') && name !== 'NO_COLOR' && name !== 'FORCE_COLOR') {
      kept[name] = value;
    }
  }
  return { ...kept, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`, ...env };
}

export async function runCli(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  if (!existsSync(join(root, 'dist', 'cli', 'main.js'))) throw new Error('dist/ is missing: npm run build');
  const command = options.command ?? [...(options.under ?? []), binary, ...args];
  const child = spawn(command[0] as string, command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: cliEnvironment(options.env),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  options.onStart?.(child);
  return await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve({
        code,
        signal,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      });
    });
  });
}

/** A directory for one test file, with a store, a key and a state directory in it. */
export class Workplace implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'holdfast-cli-'));
  readonly store: string = `file:${this.at('store')}`;
  readonly #env: Record<string, string>;

  constructor(env: Readonly<Record<string, string>> = {}) {
    this.#env = {
      HOLDFAST_STORE: this.store,
      HOLDFAST_KEY_FILE: this.at('key'),
      HOLDFAST_LINEAGE: 'team/app/0',
      HOLDFAST_STATE_DIR: this.at('state'),
      ...env,
    };
  }

  at(...parts: readonly string[]): string {
    return join(this.path, ...parts);
  }

  get env(): Readonly<Record<string, string>> {
    return this.#env;
  }

  /** Runs a command with the workplace's settings; `env` replaces some, an empty value removes one. */
  async run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    const env: Record<string, string> = { ...this.#env };
    for (const [name, value] of Object.entries(options.env ?? {})) {
      if (value === '') delete env[name];
      else env[name] = value;
    }
    return await runCli(args, { cwd: this.path, ...options, env });
  }

  /** The JSON of a command that must succeed. */
  async json(args: readonly string[], options: RunOptions & { readonly code?: number } = {}): Promise<JsonObject> {
    const ran = await this.run([...args, '--output', 'json'], options);
    expect(ran, args.join(' ')).toMatchObject({ code: options.code ?? 0, stderr: '' });
    return JSON.parse(ran.stdout) as JsonObject;
  }

  /** The error of a command that must fail: its JSON, which names its exit code. */
  async error(args: readonly string[], options: RunOptions = {}): Promise<JsonObject & { code: string; exit: number }> {
    const ran = await this.run([...args, '--output', 'json'], options);
    expect(ran.stderr, `${args.join(' ')}: ${ran.stdout}`).toMatch(/^\{"error":/);
    const { error } = JSON.parse(ran.stderr) as { error: JsonObject & { code: string; exit: number } };
    expect({ code: ran.code, stdout: ran.stdout }).toEqual({ code: error.exit, stdout: '' });
    return error;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

// biome-ignore lint/suspicious/noExplicitAny: what a test looks at is compared with what it expects, not typed.
export type JsonObject = Record<string, any>;
