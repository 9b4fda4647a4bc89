/** Keeps what was used last, up to a weight in bytes. What is dropped can always be made again. */
export class WeightedCache<Value> {
  readonly #weightMax: number;
  /** In the order of use, the oldest first. */
  readonly #kept = new Map<string, { readonly value: Value; readonly weight: number }>();
  #weight = 0;

  constructor(weightMax: number) {
    this.#weightMax = weightMax;
  }

  get(name: string): Value | undefined {
    const found = this.#kept.get(name);
    if (found === undefined) return undefined;
    this.#kept.delete(name);
    this.#kept.set(name, found);
    return found.value;
  }

  /** The value just kept stays, however heavy it is, until the next one comes. */
  keep(name: string, value: Value, weight: number): void {
    this.#drop(name);
    this.#kept.set(name, { value, weight });
    this.#weight += weight;
    for (const oldest of this.#kept.keys()) {
      if (this.#weight <= this.#weightMax || oldest === name) return;
      this.#drop(oldest);
    }
  }

  #drop(name: string): void {
    const found = this.#kept.get(name);
    if (found === undefined) return;
    this.#kept.delete(name);
    this.#weight -= found.weight;
  }
}
