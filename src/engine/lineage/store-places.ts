/** Where in a store those find their things who keep one lineage, a workload, or everything. */
import { domainKeyPrefix, lineagePrefix, pinPrefix, toKeyPart } from '../format/object-keys.ts';
import type { LineageName } from '../model/ids.ts';
import { domainOf } from './repository.ts';

/** One lineage, or all replicas of a workload (`team/app`). */
export type StoreScope = { readonly lineage: LineageName } | { readonly workload: string };

export interface StorePlaces {
  /** `v1/l/<hh>/<lineage>/`; with wildcards for several. */
  readonly lineage: string;
  /** Pattern of what is listed. */
  readonly listed: string;
  readonly keys: string;
  readonly pins: string;
}

/**
 * Patterns of object keys: `*` for any characters, `?` for one. Of a workload the two characters of a hash are left open, and no other
 * name begins as its replicas' do but those of workloads below it (`team/app/more`).
 */
export function storePlaces(scope: StoreScope): StorePlaces {
  if ('lineage' in scope) {
    const lineage = lineagePrefix(scope.lineage);
    return {
      lineage,
      listed: `${lineage}*`,
      keys: `${domainKeyPrefix(domainOf(scope.lineage))}*`,
      pins: `${pinPrefix(scope.lineage)}*`,
    };
  }
  const part = toKeyPart(scope.workload);
  const lineage = `v1/l/??/${part}_.*/`;
  return { lineage, listed: `${lineage}*`, keys: `${domainKeyPrefix(scope.workload)}*`, pins: `v1/pin/${part}_.*/*` };
}
