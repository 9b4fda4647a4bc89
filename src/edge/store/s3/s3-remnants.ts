import type { Remnant } from '../../../engine/ports/store-inspector.ts';
import { failureOf } from './s3-error.ts';

const goneReasons: ReadonlySet<string> = new Set(['NoSuchKey', 'NoSuchUpload', 'NoSuchVersion']);

/** What trials have left in a bucket, because removing it was refused or failed. */
export class S3Remnants {
  readonly found: Remnant[] = [];

  /** Removes something by `remove`, which is tried once; never throws. */
  async unless(kind: Remnant['kind'], key: string, remove: () => Promise<unknown>): Promise<void> {
    try {
      await remove();
    } catch (error) {
      const { reason } = failureOf(error);
      if (!goneReasons.has(reason)) this.found.push({ kind, key, reason });
    }
  }
}
