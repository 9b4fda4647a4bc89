/** Gives equal things (records, listings) one object and a small number, so that a state can be compared by numbers. */
export class Interner<Thing> {
  #byKey = new Map<string, Thing>();

  /** The one thing with this key; `make` builds it with the number it gets, 1 or more. */
  get(key: string, make: (id: number) => Thing): Thing {
    let thing = this.#byKey.get(key);
    if (thing === undefined) {
      thing = make(this.#byKey.size + 1);
      this.#byKey.set(key, thing);
    }
    return thing;
  }
}
