/** What a store says of itself and of the rights of whoever asks, beyond what its objects need: for people who set it up. */
import type { WaitOptions } from './object-store.ts';

/** What may be done with these credentials. unknown: the store did not say, or the check does not exist there. */
export type Right = 'granted' | 'refused' | 'unknown';

export interface StoreRights {
  /** Writing over an object that stands there. */
  readonly overwrite: Right;
  readonly delete: Right;
  readonly abortUpload: Right;
  readonly listUploads: Right;
}

export interface StoreFinding {
  /** Of one word, stable: `clock`, `versioning`, `lifecycle`, … */
  readonly check: string;
  readonly state: 'ok' | 'warning' | 'failed' | 'unknown';
  /** What was seen. */
  readonly seen: string;
  /** What to do about it. */
  readonly remedy?: string;
}

export interface StoreInspector {
  /** Where policies can say who may do what; undefined for a directory. */
  readonly policies:
    | { readonly bucket: string; readonly prefix: string; readonly dialect: 'aws' | 'other' }
    | undefined;
  /** Settings of the store that matter to a repository. Throws E_STORE_UNREACHABLE, E_STORE_CREDENTIALS, E_ABORTED. */
  settings(options?: WaitOptions): Promise<readonly StoreFinding[]>;
  /**
   * Tries what the present credentials may do, around the key of an object that stands there and that nobody needs. It may be
   * written over with its own bytes; nothing else is changed. `uploads` is a prefix below which uploads are begun and given up.
   * Errors as above.
   */
  rights(
    probe: { readonly key: string; readonly bytes: Uint8Array; readonly uploads: string },
    options?: WaitOptions,
  ): Promise<StoreRights>;
  /** Whether completing an upload of parts refuses to overwrite the object at `key`; undefined where there are no such uploads. */
  completionRefused(key: string, options?: WaitOptions): Promise<Right | undefined>;
}
