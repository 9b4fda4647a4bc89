import type { ChangeCount, Changes } from '../../engine/model/changes.ts';
import type { ChangeSource } from '../../engine/ports/change-source.ts';

/** Nobody watches: each capture walks everything. */
export class ScanOnlySource implements ChangeSource {
  readonly kind = 'scan';
  readonly why: string | undefined;
  readonly prompt = true;

  constructor(why?: string) {
    this.why = why;
  }

  async count(): Promise<ChangeCount> {
    return { kind: 'everything', reason: 'unwatched' };
  }

  async take(): Promise<Changes> {
    return { kind: 'everything', reason: 'unwatched' };
  }

  putBack(): void {}

  scanned(): void {}

  async close(): Promise<void> {}
}
