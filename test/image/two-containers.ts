/** A pod as podman has it: an init container, an application and an agent that share a volume, each with limits of its own. */
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { RestoreReceipt } from '../../src/contract/receipt.ts';
import { baseImage, type Podman } from './podman.ts';

const uid = 4242;
const user = `${uid}:${uid}`;
const alike = [
  '--network=none',
  '--read-only',
  '--cap-drop=ALL',
  '--security-opt',
  'no-new-privileges',
  '--user',
  user,
];
/** What the chart asks for by default may be less: here the agent has to get by with this. */
export const agentMemoryMebibytes = 192;
const agentLimits = ['--memory', `${agentMemoryMebibytes}m`, '--cpus', '0.5'];

export interface Line {
  readonly event: string;
  readonly [name: string]: unknown;
}

export class PodOfContainers implements Disposable {
  readonly volume: string;
  readonly #podman: Podman;
  readonly #image: string;
  readonly #uid: string;
  readonly #private: string;

  /** `place` holds the store and the key of all pods. */
  constructor(podman: Podman, image: string, place: string, uid: string) {
    this.#podman = podman;
    this.#image = image;
    this.#uid = uid;
    this.volume = join(place, uid, 'volume');
    this.#private = join(place, 'private');
    mkdirSync(this.volume, { recursive: true });
    // Of whichever user the containers are.
    chmodSync(this.volume, 0o777);
  }

  #holdfast(name: string, ...args: readonly string[]): string[] {
    const settings = { STORE: 'file:/private/store', KEY_FILE: '/private/key', LINEAGE: 'team/pair/0' };
    return [
      ...['run', '--rm', '--name', this.#name(name), ...alike, ...agentLimits],
      ...['--volume', `${this.volume}:/data`, '--volume', `${this.#private}:/private`],
      ...Object.entries(settings).flatMap(([key, value]) => ['--env', `HOLDFAST_${key}=${value}`]),
      ...[this.#image, ...args, '--volume', 'data=/data', '--pod-uid', this.#uid],
      ...['--state-dir', `/private/state-${this.#uid}`],
    ];
  }

  #name(role: string): string {
    return `holdfast-test-${this.#uid}-${role}`;
  }

  /** A file of the containers' user. */
  write(name: string, content: Uint8Array): void {
    const path = join(this.volume, name);
    writeFileSync(path, content);
    chownSync(path, uid, uid);
  }

  rehydrate(): RestoreReceipt {
    const args = this.#holdfast('init', 'rehydrate', '--handoff-wait', '1s', '--output', 'json');
    return JSON.parse(this.#podman.must(...args)) as RestoreReceipt;
  }

  /** Appends lines to the file `lines` of the volume until it is ended. */
  startApplication(): void {
    this.#podman.must(
      ...['run', '--detach', '--name', this.#name('app'), ...alike, '--memory', '96m', '--cpus', '0.5'],
      ...['--volume', `${this.volume}:/data`],
      ...['--volume', `${join(import.meta.dirname, '../agent/application.ts')}:/app/application.ts:ro`],
      ...[baseImage, 'node', '/app/application.ts', '/data/lines', '5'],
    );
  }

  signalApplication(signal: 'KILL' | 'TERM'): void {
    this.#podman.must('kill', '--signal', signal, this.#name('app'));
    this.#podman.must('wait', this.#name('app'));
  }

  startAgent(): AgentContainer {
    const args = ['agent', '--schedule', '1s', '--grace', '20s'];
    return new AgentContainer(this.#podman, this.#name('agent'), this.#holdfast('agent', ...args));
  }

  [Symbol.dispose](): void {
    for (const role of ['init', 'app', 'agent']) this.#podman.run('rm', '--force', '--time', '0', this.#name(role));
  }
}

export class AgentContainer {
  readonly lines: Line[] = [];
  readonly ended: Promise<number | null>;
  readonly #podman: Podman;
  readonly #name: string;
  #heard: (() => void)[] = [];
  #over = false;

  constructor(podman: Podman, name: string, args: readonly string[]) {
    this.#podman = podman;
    this.#name = name;
    const child = podman.start(...args);
    const wake = (): void => {
      for (const heard of this.#heard.splice(0)) heard();
    };
    createInterface(child.stdout).on('line', (line) => {
      this.lines.push(JSON.parse(line) as Line);
      wake();
    });
    this.ended = once(child, 'close').then(([code]) => {
      this.#over = true;
      wake();
      return code as number | null;
    });
  }

  /** When it has said that event so often. */
  async said(event: string, times: number): Promise<void> {
    while (this.lines.filter((line) => line.event === event).length < times) {
      if (this.#over) throw new Error(`the agent ended:\n${this.lines.map((line) => JSON.stringify(line)).join('\n')}`);
      await new Promise<void>((resolve) => this.#heard.push(resolve));
    }
  }

  /** The most memory that its cgroup, of version 1 or 2, was ever charged with; undefined where the kernel does not say. */
  memoryPeakBytes(): number | undefined {
    const pid = this.#podman.must('inspect', '--format', '{{.State.Pid}}', this.#name);
    const cgroups = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    const one = /^\d+:memory:(.*)$/m.exec(cgroups)?.[1];
    const two = /^0::(.*)$/m.exec(cgroups)?.[1];
    for (const path of [`/sys/fs/cgroup/memory${one}/memory.max_usage_in_bytes`, `/sys/fs/cgroup${two}/memory.peak`]) {
      try {
        return Number(readFileSync(path, 'latin1'));
      } catch {
        // The other one, then.
      }
    }
    return undefined;
  }

  async end(signal: 'KILL' | 'TERM'): Promise<number | null> {
    this.#podman.must('kill', '--signal', signal, this.#name);
    return await this.ended;
  }
}
