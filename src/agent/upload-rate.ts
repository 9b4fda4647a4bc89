/** How fast captures save content, as those that had something to do have shown. */

/** Smaller captures show how long a request takes, not how fast bytes go. */
const sampleBytesMin: number = 1024 * 1024;
/** Of the newest sample. */
const weight = 0.3;

export class UploadRate {
  #bytesPerSecond: number | undefined;

  /** A capture that stored so much new content in so long, reading and compressing included. */
  note(newBytes: number, seconds: number): void {
    if (newBytes < sampleBytesMin || seconds <= 0) return;
    const sample = newBytes / seconds;
    const before = this.#bytesPerSecond;
    // A store that has got slower is believed at once: too much unsaved costs more than a checkpoint too many.
    this.#bytesPerSecond = before === undefined || sample < before ? sample : before + weight * (sample - before);
  }

  /** Undefined until there was a capture to learn from. */
  get bytesPerSecond(): number | undefined {
    return this.#bytesPerSecond;
  }

  /** How long saving so much would take; undefined where that is not known. */
  secondsFor(bytes: number): number | undefined {
    return this.#bytesPerSecond === undefined ? undefined : bytes / this.#bytesPerSecond;
  }
}
