/**
 * Documents of YAML, of which JSON is a part, as plain values. With the scalars of YAML 1.1, as kubectl has them: `yes` is true. Not by
 * the client's own loader, which makes typed objects and drops what it does not know.
 */
import { loadAll, YAML11_SCHEMA } from 'js-yaml';
import { HoldfastError } from '../../engine/model/errors.ts';

/** E_USAGE for what is no YAML. What JSON cannot say (dates, for one) is as JSON would have it; empty documents are left out. */
export function parseDocuments<Value>(text: string): readonly Value[] {
  try {
    const documents = loadAll(text, { schema: YAML11_SCHEMA }) as readonly unknown[];
    return JSON.parse(JSON.stringify(documents.filter((each) => each !== null && each !== undefined))) as Value[];
  } catch (cause) {
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
    throw new HoldfastError('E_USAGE', `the manifest is no YAML: ${reason}`, {
      cause,
      remedy: 'Mend it; kubectl apply --dry-run=client would say the same.',
    });
  }
}
