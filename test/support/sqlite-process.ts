/** SQLite in a process of its own: locks of POSIX within one process would not be in each other's way. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

export class SqliteProcess implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<void>;

  constructor(file: string) {
    const program = fileURLToPath(new URL('sqlite-child.ts', import.meta.url));
    this.#child = spawn(process.execPath, [program, file], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines: Interface = createInterface({ input: this.#child.stdout });
    this.#lines = lines[Symbol.asyncIterator]();
    this.#ended = new Promise((resolve) => this.#child.once('exit', () => resolve()));
  }

  /** Rows of the last statement; `close` closes the database, and the next statement opens it again. Throws what SQLite says. */
  async run(...statements: readonly string[]): Promise<readonly Record<string, unknown>[]> {
    this.#child.stdin.write(`${JSON.stringify(statements)}\n`);
    const line = await this.#lines.next();
    if (line.done === true) throw new Error('the process with the database has ended');
    const answer = JSON.parse(line.value) as { rows?: Record<string, unknown>[]; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.rows ?? [];
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
