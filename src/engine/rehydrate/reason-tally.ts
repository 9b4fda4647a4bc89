import { type NameCount, NameTally } from '../model/name-tally.ts';

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
