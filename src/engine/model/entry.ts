/**
 * One name of a volume as a checkpoint keeps it. Inode, device, ctime, atime, nlink and a directory's size are not here:
 * they differ after every restore, and a tree that held them would never be equal again.
 */
import type { ContentId, NodeId } from './ids.ts';

/** Where bytes lie in the repository: outside every digest, so that moving data never changes a root. */
export interface Place {
  /** 0: this lineage; else an index into the record's table of other lineages (forks). */
  readonly origin: number;
  /** The only log slot that may have introduced the pack. */
  readonly slot: number;
  /** Number of the pack among those of its slot. */
  readonly pack: number;
  readonly segment: number;
  /** Byte offset in the segment's plaintext. */
  readonly offset: number;
}

/** A chunk of content, or a run of aligned 64 KiB blocks of zeros (no id, no place). */
export type ContentItem =
  | { readonly kind: 'chunk'; readonly bytes: number; readonly id: ContentId; readonly place: Place }
  | { readonly kind: 'zero'; readonly bytes: number };

/** At most 8 items stand in the entry; more are a chunk list, itself a prolly list. */
export type Content =
  | { readonly kind: 'inline'; readonly items: readonly ContentItem[] }
  | {
      readonly kind: 'list';
      readonly id: NodeId;
      readonly place: Place;
      readonly nodeBytes: number;
      readonly level: number;
    };

export const inlineItemsMax = 8;
export const zeroBlockBytes: number = 64 * 1024;

/** A range of a file that holds no data on disk; advisory, outside the digest. */
export interface Hole {
  readonly start: number;
  readonly bytes: number;
}

export type XattrValue =
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  /** Larger than `xattrInlineBytesMax`. */
  | { readonly kind: 'chunk'; readonly bytes: number; readonly id: ContentId; readonly place: Place };

export const xattrInlineBytesMax = 256;

export interface Xattr {
  /** Full name with its namespace, such as `user.mime_type`, as bytes. */
  readonly name: Uint8Array;
  readonly value: XattrValue;
}

export interface EntryMeta {
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Sorted by name bytes, without duplicates. */
  readonly xattrs: readonly Xattr[];
}

export type Entry =
  | ({
      readonly type: 'file';
      readonly size: number;
      readonly content: Content;
      readonly holes: readonly Hole[];
    } & EntryMeta)
  | ({ readonly type: 'directory' } & EntryMeta)
  | ({ readonly type: 'symlink'; readonly target: Uint8Array } & EntryMeta)
  | ({ readonly type: 'fifo' } & EntryMeta)
  /** A further name of the file at key `target`, which is the first name of its group in key order. */
  | { readonly type: 'hardlink'; readonly target: Uint8Array };

/** xattrs that belong to the machine, not to the data: they differ per pod and stay out. */
export const excludedXattrs: readonly string[] = ['security.selinux', 'security.ima', 'security.evm'];
