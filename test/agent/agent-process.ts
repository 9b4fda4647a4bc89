/** A real agent in a process of its own, beside a real directory, on a directory or a bucket. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { binary, cliEnvironment, type JsonObject, Workplace } from '../cli/run-cli.ts';
import { freshBucket } from '../servers/s3-store-of.ts';
import type { S3Server } from '../servers/s3-server.ts';

export type LogLine = JsonObject & { readonly event: string; readonly level: string };

const untilMsMax = 40_000;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class AgentProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly lines: LogLine[] = [];
  readonly exit: Promise<Exit>;
  stderr = '';
  #ended = false;
  #heard: (() => void)[] = [];

  /** `under`: a command line to run it under. */
  constructor(
    args: readonly string[],
    env: Readonly<Record<string, string>>,
    cwd: string,
    under: readonly string[] = [],
  ) {
    const [command = binary, ...rest] = [...under, binary, 'agent', ...args];
    this.child = spawn(command, rest, {
      cwd,
      env: cliEnvironment(env),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    const lines = createInterface({ input: this.child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      this.lines.push(JSON.parse(line) as LogLine);
      this.#wake();
    });
    const read = new Promise((resolve) => lines.once('close', resolve));
    this.exit = new Promise((resolve) => {
      this.child.once('close', async (code, signal) => {
        await read;
        this.#ended = true;
        this.#wake();
        resolve({ code, signal });
      });
    });
  }

  #wake(): void {
    for (const heard of this.#heard.splice(0)) heard();
  }

  events(event: string): readonly LogLine[] {
    return this.lines.filter((line) => line.event === event);
  }

  /** The first line of the event, from line number `from` on, that fulfils the condition; waits for it. */
  async until(
    event: string,
    condition: (line: LogLine) => boolean = () => true,
    { from = 0, waitMs = untilMsMax }: { readonly from?: number; readonly waitMs?: number } = {},
  ): Promise<LogLine> {
    const giveUp = performance.now() + waitMs;
    for (;;) {
      const found = this.lines.slice(from).find((line) => line.event === event && condition(line));
      if (found !== undefined) return found;
      const left = giveUp - performance.now();
      if (this.#ended || left <= 0) {
        const what = this.#ended ? 'the agent ended' : 'nothing came';
        throw new Error(
          `${what} before ${event}:\n${this.lines.map((line) => JSON.stringify(line)).join('\n')}\n${this.stderr}`,
        );
      }
      const ending = new AbortController();
      await Promise.race([
        new Promise<void>((resolve) => this.#heard.push(resolve)),
        sleep(left, undefined, { signal: ending.signal }).catch(() => undefined),
      ]);
      ending.abort();
    }
  }

  /** Sends a signal and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    this.child.kill(signal);
    return await this.exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) await this.stop('SIGKILL');
  }
}

/** A repository, a volume with something in it, and agents beside it. */
export class AgentPlace implements Disposable {
  readonly work: Workplace;
  readonly volume: string;

  private constructor(work: Workplace) {
    this.work = work;
    this.volume = work.at('vol');
    mkdirSync(this.volume);
  }

  static async make(server?: S3Server): Promise<AgentPlace> {
    const env: Record<string, string> =
      server === undefined
        ? {}
        : {
            HOLDFAST_STORE: `s3://${freshBucket()}/some/prefix?endpoint=${server.endpoint}`,
            AWS_ACCESS_KEY_ID: server.accessKeyId,
            AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
            AWS_EC2_METADATA_DISABLED: 'true',
          };
    const place = new AgentPlace(new Workplace(env));
    await place.work.json(['init']);
    return place;
  }

  /** An agent with a state directory, and so a pod, of its own. */
  agent(
    args: readonly string[] = [],
    { pod = 'pod-1', volume = this.volume, env = {}, under = [] }: AgentOptions = {},
  ): AgentProcess {
    const settings = ['--volume', `data=${volume}`, '--pod-uid', pod, '--state-dir', this.stateOf(pod)];
    const given = (name: string): boolean => args.includes(name);
    const defaults = [
      ...(given('--schedule') ? [] : ['--schedule', '1s']),
      ...(given('--grace') ? [] : ['--grace', '10s']),
      ...(given('--termination-message') ? [] : ['--termination-message', this.work.at('message')]),
    ];
    const all = [...settings, ...defaults, ...args];
    return new AgentProcess(all, { ...this.work.env, ...env }, this.work.path, under);
  }

  stateOf(pod: string): string {
    return this.work.at('pods', pod);
  }

  async status(pod = 'pod-1'): Promise<JsonObject> {
    return await this.work.json(['status', '--state-dir', this.stateOf(pod)]);
  }

  /** The log of the lineage, newest first. */
  async log(): Promise<readonly JsonObject[]> {
    const { checkpoints } = await this.work.json(['ls', '--lineage', 'team/app/0', '--all']);
    return checkpoints as JsonObject[];
  }

  /** Restores the newest checkpoint; its JSON. */
  async restore(name: string): Promise<JsonObject> {
    const target = this.work.at(name);
    return await this.work.json(['restore', '--target', target], {
      env: { HOLDFAST_STATE_DIR: this.work.at('person') },
    });
  }

  [Symbol.dispose](): void {
    rmSync(this.work.path, { recursive: true, force: true });
  }
}

export interface AgentOptions {
  readonly pod?: string;
  readonly volume?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly under?: readonly string[];
}
