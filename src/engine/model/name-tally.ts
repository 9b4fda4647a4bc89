/** Names counted, the first of them kept: reports stay small however much there is to report. */
import { displayPath } from './rel-path.ts';

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

  /** Adds what another tally has and neither this one nor `but`, as far as names are kept. */
  addMissing(other: NameTally, but: NameTally | undefined): void {
    for (const name of other.names) {
      if (this.#names.includes(name) || but?.names.includes(name)) continue;
      this.#count++;
      if (this.#names.length < namesKept) this.#names.push(name);
    }
  }

  /** As plain data. */
  plain(): NameCount {
    return { count: this.#count, names: [...this.#names] };
  }
}
