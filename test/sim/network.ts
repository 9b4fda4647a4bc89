import type { PendingEffect } from '../support/faulty-store.ts';

/** Requests that are still under way, whoever sent them. */
export interface Network {
  readonly underWay: (Omit<PendingEffect, 'operation'> & { readonly operation: string })[];
}
