/** A pod as the store and the state directory see it: a UID, volumes, a private directory, and the real command line. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { RestoreReceipt } from '../../src/contract/receipt.ts';
import type { JsonObject, Ran, RunOptions, Workplace } from '../cli/run-cli.ts';

export interface Rehydrated extends Ran {
  /** As the state directory has it. */
  readonly receipt: RestoreReceipt | undefined;
  readonly error: { readonly code: string; readonly exit: number; readonly remedy: string } | undefined;
  readonly events: readonly { readonly event: string; readonly message: string }[];
}

export class Pod {
  readonly uid: string;
  readonly state: string;
  readonly volumes: Readonly<Record<string, string>>;
  readonly #place: Workplace;

  constructor(place: Workplace, uid: string, names: readonly string[] = ['data']) {
    this.#place = place;
    this.uid = uid;
    this.state = place.at(uid, 'state');
    this.volumes = Object.fromEntries(names.map((name) => [name, place.at(uid, name)]));
    for (const path of Object.values(this.volumes)) mkdirSync(path, { recursive: true });
  }

  get data(): string {
    return this.volumes['data'] as string;
  }

  args(extra: readonly string[] = []): readonly string[] {
    const volumes = Object.entries(this.volumes).flatMap(([name, path]) => ['--volume', `${name}=${path}`]);
    return [
      'rehydrate',
      ...volumes,
      ...['--state-dir', this.state, '--pod-uid', this.uid, '--pod-name', `app-${this.uid}`],
      ...['--handoff-wait', '0s', '--output', 'json'],
      ...extra.filter((text) => text !== ''),
    ];
  }

  /** Options given twice: the later one counts. */
  async rehydrate(extra: readonly string[] = [], options: RunOptions = {}): Promise<Rehydrated> {
    const base = this.args();
    const given = new Set(extra.filter((text) => text.startsWith('--')));
    const kept: string[] = [];
    for (let i = 0; i < base.length; i++) {
      const text = base[i] as string;
      if (text.startsWith('--') && given.has(text) && text !== '--volume') i++;
      else kept.push(text);
    }
    const ran = await this.#place.run([...kept, ...extra], options);
    return { ...ran, ...outputsOf(ran), receipt: this.receipt() };
  }

  receipt(): RestoreReceipt | undefined {
    const text = this.stateText('receipt.json');
    return text === undefined ? undefined : (JSON.parse(text) as RestoreReceipt);
  }

  marker(): JsonObject | undefined {
    const text = this.stateText('rehydrate.json');
    return text === undefined ? undefined : (JSON.parse(text) as JsonObject);
  }

  stateText(name: string): string | undefined {
    try {
      return readFileSync(join(this.state, name), 'utf8');
    } catch {
      return undefined;
    }
  }

  writeState(name: string, text: string): void {
    mkdirSync(this.state, { recursive: true });
    writeFileSync(join(this.state, name), text);
  }

  /** What the agent of this pod does: a checkpoint under the claim that it inherits. */
  async checkpoint(extra: readonly string[] = []): Promise<JsonObject> {
    const volumes = Object.entries(this.volumes).map(([name, path]) => `${name}=${path}`);
    return await this.#place.json(['checkpoint', ...volumes, '--state-dir', this.state, ...extra]);
  }

  /** The application writes. */
  write(name: string, text: string): void {
    writeFileSync(join(this.data, name), text);
  }

  read(name: string): string | undefined {
    try {
      return readFileSync(join(this.data, name), 'utf8');
    } catch {
      return undefined;
    }
  }

  forgetState(): void {
    rmSync(this.state, { recursive: true, force: true });
  }
}

/** When a container that runs says that event, with `--output json`; rejects when it ends without. */
export async function said(child: ChildProcess, event: string): Promise<void> {
  const lines = createInterface({ input: child.stderr as NodeJS.ReadableStream });
  try {
    for await (const line of lines) {
      if (line.startsWith('{') && (JSON.parse(line) as JsonObject)['event'] === event) return;
    }
  } finally {
    // Whoever collects what it prints goes on.
    lines.close();
    child.stderr?.resume();
  }
  throw new Error(`the container ended and never said ${event}`);
}

function outputsOf({ stderr }: Ran): Pick<Rehydrated, 'error' | 'events'> {
  const lines = stderr
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as JsonObject);
  return {
    error: lines.find((line) => 'error' in line)?.['error'] as Rehydrated['error'],
    events: lines.filter((line) => 'event' in line) as unknown as Rehydrated['events'],
  };
}
