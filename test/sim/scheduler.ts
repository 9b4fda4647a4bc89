/**
 * Who goes on next. Everything in a simulation that waits, waits here; each step lets everything run that can run without waiting,
 * then lets one of those that wait go on, chosen by the seed. So the order of all events follows from the seed alone.
 */
import { createHash, type Hash } from 'node:crypto';
import type { Chance } from './chance.ts';

/** Thrown into a process at the moment of its death: no line of it may do anything any more. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

/** Something that can be stopped for a while, or for good. */
export interface Owner {
  readonly name: string;
  readonly dead: boolean;
  readonly paused: boolean;
}

interface Waiting {
  readonly owner: Owner | undefined;
  readonly label: string;
  readonly fromMs: number;
  readonly go: () => void;
}

const linesKept = 4000;

export class Scheduler {
  /** True time of the simulated world, in ms from its beginning. */
  nowMs = 0;
  steps = 0;
  readonly #chance: Chance;
  readonly #waiting: Waiting[] = [];
  readonly #hash: Hash = createHash('sha256');
  readonly #lines: string[] = [];
  /** Told of every line when it is written. */
  onLine: ((line: string) => void) | undefined;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  /** Goes on when chosen, not before `ms` have passed. Never, when the owner died meanwhile. */
  wait(owner: Owner | undefined, label: string, ms = 0): Promise<void> {
    return new Promise((go) => {
      this.#waiting.push({ owner, label, fromMs: this.nowMs + Math.max(0, ms), go });
    });
  }

  note(line: string): void {
    const text = `${this.steps} ${Math.round(this.nowMs)}ms ${line}`;
    this.#hash.update(`${text}\n`);
    this.#lines.push(text);
    if (this.#lines.length > 2 * linesKept) this.#lines.splice(0, linesKept);
    this.onLine?.(text);
  }

  /** The last steps, oldest first. */
  get lines(): readonly string[] {
    return this.#lines.slice(-linesKept);
  }

  digest(): string {
    return this.#hash.copy().digest('hex').slice(0, 16);
  }

  /** Lets one go on; false when nobody waits who could. */
  async step(): Promise<boolean> {
    await settled();
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      if (this.#waiting[i]?.owner?.dead === true) this.#waiting.splice(i, 1);
    }
    let candidates = this.#waiting.filter((one) => one.owner?.paused !== true);
    if (candidates.length === 0) return false;
    let ready = candidates.filter((one) => one.fromMs <= this.nowMs);
    if (ready.length === 0) {
      this.nowMs = Math.min(...candidates.map((one) => one.fromMs));
      ready = candidates.filter((one) => one.fromMs <= this.nowMs);
    }
    candidates = ready;
    const chosen = candidates[this.#chance.below(candidates.length)] as Waiting;
    this.#waiting.splice(this.#waiting.indexOf(chosen), 1);
    this.steps++;
    this.nowMs += this.#chance.below(4);
    this.note(`${chosen.owner?.name ?? 'world'}: ${chosen.label}`);
    chosen.go();
    await settled();
    return true;
  }
}

/** Everything that does not wait for the scheduler has run. */
function settled(): Promise<void> {
  return new Promise((done) => setImmediate(done));
}
