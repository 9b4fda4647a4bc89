import { Encoder } from './encoder.ts';

/**
 * A protocol as a state machine. A state is plain immutable data: two states are the same state if and only if
 * `encode` writes the same bytes for both, so it must write everything that `moves` and `broken` look at.
 */
export type Model<State> = {
  readonly initial: State;
  /** Hands every step that is possible in `state` to `next`. */
  moves(state: State, next: Moves<State>): void;
  /** The invariant that `state` breaks, as `KIND: details`, or undefined. */
  broken(state: State): string | undefined;
  /** What is wrong with a state that nobody will leave: no step, only faults, leads out of it. As `KIND: details`. */
  stuck?(state: State): string | undefined;
  encode(state: State, out: Encoder): void;
};

/** Where a model puts the steps out of one state. */
export type Moves<State> = {
  /** A step that somebody takes by himself, given time. `broken` says that this very step breaks an invariant. */
  step(label: string, next: State, broken?: string): void;
  /** A step of the surroundings, which may never come: a crash, a lost reply, a birth. */
  fault(label: string, next: State): void;
  /** The bounds of the model cut a step off here, so the state is not stuck. */
  cut(): void;
};

/** An invariant that broke, or a state nobody leaves, and a shortest way from the initial state to it. */
export type Finding = { readonly what: string; readonly trace: readonly string[] };

export type Outcome = {
  /** `complete`: every reachable state was visited. `limit`: it was not, so nothing is proven. */
  readonly verdict: 'complete' | 'limit' | 'violation';
  /** How many different states were visited. */
  readonly states: number;
  /** Length of the longest shortest way to a visited state, in steps. */
  readonly depth: number;
  readonly violation: Finding | undefined;
  /** The first state of each kind that nobody leaves, by kind. */
  readonly stuck: ReadonlyMap<string, Finding>;
};

/** The KIND of a `KIND: details`. */
export function kindOf(what: string): string {
  const colon = what.indexOf(':');
  return colon < 0 ? what : what.slice(0, colon);
}

/**
 * Visits every state that is reachable from `model.initial`, breadth first, so that a trace is a shortest one, and stops
 * at the first broken invariant, or with the verdict `limit` when more than `limit` states were found.
 *
 * A visited state costs its encoded bytes plus about 20; only the states of two levels are objects at a time.
 */
export function explore<State>(model: Model<State>, limit: number): Outcome {
  const visited = new Visited();
  const parents = new IntList();
  const stuck = new Map<string, Finding>();
  const out = new Encoder();
  let violation: Finding | undefined;

  let from = -1;
  let leavesItself = true;
  let level: State[] = [];
  let levelIds: number[] = [];
  let nextLevel: State[] = [];
  let nextLevelIds: number[] = [];

  const visit = (label: string, state: State, what: string | undefined): number => {
    out.reset();
    model.encode(state, out);
    const known = visited.count;
    const id = visited.add(out);
    if (what !== undefined) {
      violation = { what, trace: [...trace(from), label] };
      return id;
    }
    if (id < known) return id;
    parents.push(from);
    nextLevel.push(state);
    nextLevelIds.push(id);
    const broken = model.broken(state);
    if (broken !== undefined) violation = { what: broken, trace: trace(id) };
    return id;
  };

  const moves: Moves<State> = {
    step: (label, state, what) => {
      if (violation === undefined && visit(label, state, what) !== from) leavesItself = false;
    },
    fault: (label, state) => {
      if (violation === undefined) visit(label, state, undefined);
    },
    cut: () => {
      leavesItself = false;
    },
  };

  /** Labels are not stored: the steps on the way are taken once more, looking for the successor that was visited. */
  const trace = (id: number): string[] => {
    const way: number[] = [];
    for (let at = id; at > 0; at = parents.get(at)) way.push(at);
    const labels: string[] = [];
    const encoder = new Encoder();
    let state = model.initial;
    for (const wanted of way.reverse()) {
      let found: { label: string; state: State } | undefined;
      const look = (label: string, candidate: State): void => {
        if (found !== undefined) return;
        encoder.reset();
        model.encode(candidate, encoder);
        if (visited.find(encoder) === wanted) found = { label, state: candidate };
      };
      model.moves(state, { step: look, fault: look, cut: () => {} });
      if (found === undefined) throw new Error('a model whose moves differ from call to call cannot be explored');
      labels.push(found.label);
      state = found.state;
    }
    return labels;
  };

  visit('initial', model.initial, undefined);
  let depth = 0;
  for (;;) {
    [level, levelIds, nextLevel, nextLevelIds] = [nextLevel, nextLevelIds, [], []];
    if (violation !== undefined) break;
    if (level.length === 0) return { verdict: 'complete', states: visited.count, depth: depth - 1, violation, stuck };
    depth++;
    for (let i = 0; i < level.length; i++) {
      const state = level[i] as State;
      from = levelIds[i] as number;
      leavesItself = true;
      model.moves(state, moves);
      if (violation !== undefined) break;
      if (visited.count > limit) return { verdict: 'limit', states: visited.count, depth, violation, stuck };
      if (leavesItself && model.stuck !== undefined) {
        const what = model.stuck(state);
        if (what !== undefined && !stuck.has(kindOf(what))) stuck.set(kindOf(what), { what, trace: trace(from) });
      }
    }
  }
  return { verdict: 'violation', states: visited.count, depth, violation, stuck };
}

const chunkBits = 22;
const chunkBytes = 1 << chunkBits;

/** The set of the visited states: their encodings one after another, found through an open-addressing table of ids. */
class Visited {
  count = 0;
  #chunks: Uint8Array[] = [new Uint8Array(chunkBytes)];
  #used = 0;
  #starts = new IntList();
  #hashes = new IntList();
  #table = new Int32Array(1 << 12).fill(-1);

  /** The id of the state that `key` encodes, or -1. */
  find(key: Encoder): number {
    return this.#table[this.#place(key, key.hash())] as number;
  }

  /** The id of the state that `key` encodes; a state that is new gets the id `count`. */
  add(key: Encoder): number {
    const hash = key.hash();
    const place = this.#place(key, hash);
    const found = this.#table[place] as number;
    if (found >= 0) return found;
    const id = this.count++;
    this.#table[place] = id;
    this.#starts.push(this.#store(key));
    this.#hashes.push(hash);
    if (this.count * 2 > this.#table.length) this.#grow();
    return id;
  }

  #place(key: Encoder, hash: number): number {
    const mask = this.#table.length - 1;
    let place = hash & mask;
    for (;;) {
      const id = this.#table[place] as number;
      if (id < 0 || (this.#hashes.get(id) === hash && this.#equals(id, key))) return place;
      place = (place + 1) & mask;
    }
  }

  #equals(id: number, key: Encoder): boolean {
    const start = this.#starts.get(id) >>> 0;
    const chunk = this.#chunks[start >>> chunkBits] as Uint8Array;
    let at = start & (chunkBytes - 1);
    const length = key.length;
    if (chunk[at] !== (length & 0xff) || chunk[at + 1] !== length >>> 8) return false;
    at += 2;
    for (let i = 0; i < length; i++) if (chunk[at + i] !== key.bytes[i]) return false;
    return true;
  }

  #store(key: Encoder): number {
    const need = key.length + 2;
    if (this.#used + need > chunkBytes) {
      if (this.#chunks.length * chunkBytes >= 2 ** 32) throw new Error('more than 4 GiB of states');
      this.#chunks.push(new Uint8Array(chunkBytes));
      this.#used = 0;
    }
    const chunk = this.#chunks[this.#chunks.length - 1] as Uint8Array;
    const at = this.#used;
    chunk[at] = key.length & 0xff;
    chunk[at + 1] = key.length >>> 8;
    for (let i = 0; i < key.length; i++) chunk[at + 2 + i] = key.bytes[i] as number;
    this.#used += need;
    return (this.#chunks.length - 1) * chunkBytes + at;
  }

  #grow(): void {
    const table = new Int32Array(this.#table.length * 2).fill(-1);
    const mask = table.length - 1;
    for (let id = 0; id < this.count; id++) {
      let place = this.#hashes.get(id) & mask;
      while ((table[place] as number) >= 0) place = (place + 1) & mask;
      table[place] = id;
    }
    this.#table = table;
  }
}

/** A growing list of 32-bit integers. */
class IntList {
  #items = new Int32Array(1 << 10);
  #length = 0;

  push(item: number): void {
    if (this.#length === this.#items.length) {
      const items = new Int32Array(this.#length * 2);
      items.set(this.#items);
      this.#items = items;
    }
    this.#items[this.#length++] = item;
  }

  get(index: number): number {
    return this.#items[index] as number;
  }
}
