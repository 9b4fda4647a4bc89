/**
 * That content was stored in frames of its own is remembered by the lineage: a later run without `--isolated` may compact, and must not
 * bring a secret and what an attacker has written into one frame after the fact.
 */
import type { CommitBase } from '../lineage/lineage-writer.ts';

/** Label of every record that was made with isolated content, and of all after it. */
export const isolatedLabel = 'holdfast.dev/isolated';

/** Whether anything that the base refers to may be isolated. */
export function holdsIsolated(base: CommitBase | undefined): boolean {
  const records = [base?.record, base?.checkpoint?.record];
  return records.some((record) => record?.header.labels.some(({ name }) => name === isolatedLabel) === true);
}
