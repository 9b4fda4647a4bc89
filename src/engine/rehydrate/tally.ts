/** Names counted by reason, the first of each kept: reports stay small however much there is to report. */
import { displayPath } from '../model/rel-path.ts';

const namesKept = 100;

export interface NameCount {
  readonly count: number;
  /** The first ones, as display text. */
  readonly names: readonly string[];
}

export class NameTally {
  #count = 0;
  readonly #names: string[] = [];

  add(key: Uint8Array): void {
    this.#count++;
    if (this.#names.length < namesKept) this.#names.push(key.length === 0 ? '.' : displayPath(key));
  }

  get count(): number {
    return this.#count;
  }

  get names(): readonly string[] {
    return this.#names;
  }

  /** As plain data. */
  plain(): NameCount {
    return { count: this.#count, names: [...this.#names] };
  }
}

/** Tallies by a reason in words; a bounded number of reasons is told apart. */
export class ReasonTally {
  readonly #byReason = new Map<string, NameTally>();

  add(reason: string, key: Uint8Array): void {
    this.of(reason).add(key);
  }

  of(reason: string): NameTally {
    const known = this.#byReason.has(reason) || this.#byReason.size < reasonsMax ? reason : 'other';
    let tally = this.#byReason.get(known);
    if (tally === undefined) {
      tally = new NameTally();
      this.#byReason.set(known, tally);
    }
    return tally;
  }

  get count(): number {
    let count = 0;
    for (const tally of this.#byReason.values()) count += tally.count;
    return count;
  }

  list(): (NameCount & { readonly reason: string })[] {
    return [...this.#byReason].map(([reason, tally]) => ({ reason, ...tally.plain() }));
  }
}

const reasonsMax = 64;
