import { HoldfastError } from '../model/errors.ts';

interface Waiter {
  readonly bytes: number;
  readonly start: () => void;
}

/** Memory that several objects under way share. Whoever wants more than is left waits for its turn, first come, first served. */
export class ByteBudget {
  readonly bytesMax: number;
  readonly #countMax: number;
  readonly #waiting: Waiter[] = [];
  #bytes = 0;
  #count = 0;

  /** `countMax`: shares given out at a time, however small they are. */
  constructor(bytesMax: number, countMax: number) {
    this.bytesMax = bytesMax;
    this.#countMax = countMax;
  }

  /** Resolves with what gives the share back. A share above the whole budget is cut to it. E_ABORTED when the signal fires. */
  async take(bytes: number, signal: AbortSignal | undefined): Promise<Disposable> {
    if (signal?.aborted) throw aborted();
    const share = Math.min(bytes, this.bytesMax);
    if (this.#waiting.length > 0 || !this.#fits(share)) await this.#turn(share, signal);
    else this.#give(share);
    return {
      [Symbol.dispose]: () => {
        this.#bytes -= share;
        this.#count -= 1;
        this.#wake();
      },
    };
  }

  #give(bytes: number): void {
    this.#bytes += bytes;
    this.#count += 1;
  }

  #fits(bytes: number): boolean {
    return this.#count < this.#countMax && this.#bytes + bytes <= this.bytesMax;
  }

  #turn(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(aborted());
        this.#wake();
      };
      const waiter: Waiter = {
        bytes,
        start: () => {
          signal?.removeEventListener('abort', giveUp);
          resolve();
        },
      };
      this.#waiting.push(waiter);
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  }

  #wake(): void {
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#give(next.bytes);
      next.start();
    }
  }
}

function aborted(): HoldfastError {
  return new HoldfastError('E_ABORTED', 'the copy was interrupted');
}
