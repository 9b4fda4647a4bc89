/** What a run has counted so far, as whoever looks on is told. */
import type { CaptureProgress } from './capture-outcome.ts';
import type { RunPacks } from './run-packs.ts';
import type { ScanTotals } from './scan.ts';

export class RunProgress {
  readonly #packs: RunPacks;
  readonly #onProgress: ((progress: CaptureProgress) => void) | undefined;
  /** Number of the pass that is running, from 1. */
  pass = 0;
  newBytes = 0;
  /** Of the pass that is running. */
  passNewBytes = 0;

  constructor(packs: RunPacks, onProgress: ((progress: CaptureProgress) => void) | undefined) {
    this.#packs = packs;
    this.#onProgress = onProgress;
  }

  report(phase: CaptureProgress['phase'], totals: ScanTotals | undefined, readBytes: number, newBytes: number): void {
    if (this.#onProgress === undefined) return;
    this.#onProgress({
      phase,
      pass: this.pass,
      entries: totals?.entries ?? 0,
      files: totals?.files ?? 0,
      bytes: totals?.bytes ?? 0,
      readBytes,
      newBytes: this.newBytes + newBytes,
      storedBytes: this.#packs.storedBytes,
    });
  }
}
