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
}
