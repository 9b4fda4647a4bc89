/** Programs of applications: where they are, how they are started, awaited and ended. */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The path of a program; PostgreSQL's lie where Debian keeps those of several versions. Throws what to install where it is missing. */
export function programPath(name: string): string {
  try {
    const [newest] = readdirSync('/usr/lib/postgresql').sort((a, b) => Number(b) - Number(a));
    const path = join('/usr/lib/postgresql', newest ?? '', 'bin', name);
    execFileSync('test', ['-x', path]);
    return path;
  } catch {
    // Not one of PostgreSQL.
  }
  try {
    return execFileSync('sh', ['-c', 'command -v "$1"', 'sh', name], { encoding: 'utf8' }).trim();
  } catch {
    throw new Error(`${name} is not installed: node tools/ci-programs.mjs installs what the suites need`);
  }
}

export class Program implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  /** What it has printed, the end of it. */
  output = '';
  #heard: (() => void)[] = [];
  #over = false;

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
    const hear = (chunk: Buffer): void => {
      this.output = (this.output + chunk.toString()).slice(-20_000);
      for (const heard of this.#heard.splice(0)) heard();
    };
    this.child.stdout?.on('data', hear);
    this.child.stderr?.on('data', hear);
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code) => {
        this.#over = true;
        for (const heard of this.#heard.splice(0)) heard();
        resolve(code);
      });
    });
    // Whoever waits for the end hears of it.
    this.ended.catch(() => undefined);
  }

  /** When it has printed that; throws when it ends without. */
  async printed(text: RegExp): Promise<void> {
    while (!text.test(this.output)) {
      if (this.#over) throw new Error(`${this.child.spawnfile} ended:\n${this.output}`);
      await new Promise<void>((resolve) => this.#heard.push(resolve));
    }
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (!this.#over) this.child.kill(signal);
    return await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('SIGKILL');
  }
}

/** Its output; throws with what it printed when it fails. */
export async function ran(command: string, args: readonly string[], options: SpawnOptions = {}): Promise<string> {
  const program = new Program(command, args, options);
  program.child.stdin?.end();
  const code = await program.ended;
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${program.output}`);
  return program.output.trim();
}
