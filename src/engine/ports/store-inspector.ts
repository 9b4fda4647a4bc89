/**
 * What a store says of itself beyond its objects, for those who set it up. Nothing that keeps or restores checkpoints asks here.
 */
import type { CreateOutcome, WaitOptions } from './object-store.ts';

/** The answer to one question, or why there is none: the store does not know it, or does not tell it to these credentials. */
export type Answer<T> =
  | { readonly known: true; readonly value: T }
  | { readonly known: false; readonly why: 'not-implemented' | 'not-allowed' | 'failed'; readonly reason: string };

/** A rule by which the store itself changes or ends what lies below a prefix. */
export interface LifecycleRule {
  readonly id: string;
  /** Keys of the bucket that it is for; empty is all of them. */
  readonly prefix: string;
  /** Only objects with all these tags. */
  readonly tags: Readonly<Record<string, string>>;
  /** Deletes objects, or hides them under a delete marker. */
  readonly expires: boolean;
  /** Moves objects into classes out of which they cannot be read at once. */
  readonly archives: boolean;
  /** Ends uploads that were not completed after so many days. */
  readonly endsUploadsDays: number | undefined;
}

export interface ObjectLockState {
  readonly enabled: boolean;
  /** `COMPLIANCE, 30 days`; undefined where each write has to ask for it. */
  readonly byDefault: string | undefined;
}

export interface BucketFacts {
  readonly kind: 'bucket';
  readonly bucket: string;
  /** What every key begins with; empty, or ending with a slash. */
  readonly prefix: string;
  /** What the server calls itself; empty where it does not. */
  readonly server: string;
  /** How far the store's clock is ahead of this one, in ms. */
  readonly aheadMs: number | undefined;
  readonly versions: Answer<'kept' | 'suspended' | 'none'>;
  readonly objectLock: Answer<ObjectLockState>;
  readonly rules: Answer<readonly LifecycleRule[]>;
  /** Such as `AES256`; undefined where nothing is encrypted by default. */
  readonly encryption: Answer<string | undefined>;
  /** Uploads below the prefix that were begun and not completed. */
  readonly unfinished: Answer<number>;
  /** Tags that Holdfast gives to every object. */
  readonly tags: Readonly<Record<string, string>>;
  /** Object lock that Holdfast asks for with every object. */
  readonly locksObjects: boolean;
  /** The key of the store's key service that Holdfast asks for. */
  readonly kmsKey: string | undefined;
  /** `aws`, `aws-cn`, `aws-us-gov`: which part of AWS names of resources are for. */
  readonly partition: string;
  /** Reached at AWS itself, not at a server with an endpoint of its own. */
  readonly isAws: boolean;
}

export interface DirectoryFacts {
  readonly kind: 'directory';
  readonly path: string;
  /** Of the file system, such as `ext4`; `other` where it is not known. */
  readonly fileSystem: string;
  readonly isNetwork: boolean;
  /** Permission bits. */
  readonly mode: number;
  readonly ownedByThisUser: boolean;
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Undefined where the file system does not count them. */
  readonly freeFiles: number | undefined;
  /** Each tried out; where it failed, the reason is the errno. */
  readonly write: Answer<void>;
  readonly link: Answer<void>;
  readonly sync: Answer<void>;
  /** `a` and `A` are two names. */
  readonly tellsCapitals: Answer<boolean>;
  /** Unfinished objects in `tmp/`. */
  readonly unfinished: number;
}

export type StoreFacts = BucketFacts | DirectoryFacts;

/** What a question about rights got for an answer; `unclear` with what the store said. */
export type Right = 'allowed' | 'refused' | { readonly unclear: string };

/** Finds out what credentials may do by asking for what changes nothing. Keys and prefixes are those of the store. */
export interface StoreRights {
  /** Of an object that exists: stores hide behind "not allowed" that one does not. */
  read(key: string, options?: WaitOptions): Promise<Right>;
  list(prefix: string, options?: WaitOptions): Promise<Right>;
  /** A create-only write, where nothing stands, whose checksum is wrong: whoever may write is told so, and nothing is stored. */
  create(key: string, options?: WaitOptions): Promise<Right>;
  /** The same without the condition, which would overwrite. */
  overwrite(key: string, options?: WaitOptions): Promise<Right>;
  /** Of an object that does not exist. */
  delete(key: string, options?: WaitOptions): Promise<Right>;
  /** Of an upload that was begun for this, where one can be begun. */
  endUploads(key: string, options?: WaitOptions): Promise<Right>;
  listUploads(prefix: string, options?: WaitOptions): Promise<Right>;
}

/** What a trial has left in the store, because the store did not remove it. */
export interface Remnant {
  readonly kind: 'object' | 'upload' | 'delete marker';
  /** Of the upload: the key that it was for. */
  readonly key: string;
  /** The store's code, or the errno. */
  readonly reason: string;
}

export interface StoreInspector {
  facts(options?: WaitOptions): Promise<StoreFacts>;
  /** Completes an upload in parts at the key of an object that stands, which has to be refused. Undefined where there are no parts. */
  readonly completeOver: ((key: string, options?: WaitOptions) => Promise<CreateOutcome>) | undefined;
  /** Undefined where rights are those of files. */
  readonly rights: StoreRights | undefined;
  /** Removes objects of a trial. What cannot be removed stays, and is one of the remnants; nobody reads it. */
  forget(keys: readonly string[]): Promise<void>;
  /** What everything that was tried so far has left, questions about rights included. */
  readonly remnants: readonly Remnant[];
}
