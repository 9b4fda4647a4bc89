import { displayPath } from '../model/rel-path.ts';

const namesKept = 100;

/** Names counted by reason, the first of them kept. */
export class NameTally {
  count = 0;
  readonly names: string[] = [];

  add(key: Uint8Array): void {
    this.count++;
    if (this.names.length < namesKept) this.names.push(displayPath(key));
  }

  /** Adds what another tally has and neither this one nor `but`, as far as names are kept. */
  addMissing(other: NameTally, but: NameTally | undefined): void {
    for (const name of other.names) {
      if (this.names.includes(name) || but?.names.includes(name)) continue;
      this.count++;
      if (this.names.length < namesKept) this.names.push(name);
    }
  }
}
