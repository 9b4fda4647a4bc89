/** What a command did well, and its user should still know: a line each on stderr, or `warnings` of the JSON. */
import type { Host } from './host.ts';
import { printable, styled } from './print.ts';

/** Every code with what it means; docs/cli.md lists the same. */
export const warningCatalogue = {
  W_RECORDS_PASSED: 'records newer than the chosen checkpoint were passed over: void, damaged, or suspect',
  W_CHECKPOINT_INCOMPLETE:
    'the restored checkpoint is incomplete: what could not be read when it was made is named, and is not there',
  W_NO_MATCH: 'a glob matches nothing',
  W_CACHE: 'the cache could not be used; what it would have spared was read',
  W_KEY_INSIDE: 'the key file lies in what is stored: lost together, it opens nothing',
  W_ROOT_UNKNOWN: 'a dry run before the first checkpoint of a workload: there are no keys yet, so `root` is null',
} as const;

export type WarningCode = keyof typeof warningCatalogue;

export interface Warning {
  readonly code: WarningCode;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

/** What every command says of a repository that was made `--unfenced`. */
const unfencedText =
  "UNFENCED: this store does not refuse to overwrite, so two writers of a lineage may destroy each other's checkpoints";

/** Beside the fields of every result in JSON. */
export function fencingJson({ unfenced }: { readonly unfenced: boolean }): { readonly unfenced?: true } {
  return unfenced ? { unfenced } : {};
}

/** One line on stderr, where the result is text. */
export function sayUnfenced({ stderr }: Host): void {
  stderr.write(`${styled(stderr, ['yellow', 'bold'], 'warning')} ${unfencedText}\n`);
}

export class Warnings {
  readonly list: Warning[] = [];

  add(code: WarningCode, message: string, details: Readonly<Record<string, unknown>> = {}): void {
    this.list.push({ code, message, details });
  }

  print({ stderr }: Host): void {
    for (const { message } of this.list) stderr.write(`${styled(stderr, 'yellow', 'warning')} ${printable(message)}\n`);
  }
}
