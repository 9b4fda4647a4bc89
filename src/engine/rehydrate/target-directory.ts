/**
 * Directories of the target while they are filled: open descriptors shared by the walk and the batches that write into them.
 *
 * Invariants: a directory keeps mode 0700 until everything below it is done; then, and only then, it gets its metadata, from the
 * one who holds it last. It is only ever opened beneath the target without passing a symlink. Far ancestors of a deep walk are
 * closed and found again by the way down, proven to be the same by device and inode.
 */
import { invariant } from '../model/errors.ts';
import { keyComponents } from '../model/rel-path.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import { nameAt } from './apply-meta.ts';
import type { Held } from './batch.ts';
import type { ExistingNames } from './existing.ts';

export interface DirectoryEntry {
  readonly value: Uint8Array;
  readonly placement: Uint8Array;
}

export interface DirectoryFacts {
  readonly key: Uint8Array;
  /** Its entry in the tree; undefined for the target's own directory, and where the metadata is not ours to set. */
  readonly entry: DirectoryEntry | undefined;
  /** New files in it belong to who runs the restore, as in the target's own directory: it was made just now, like those above. */
  readonly ownersAsUsual: boolean;
  readonly existing: ExistingNames | undefined;
}

/** How many descriptors the directories of a restore have open. */
export interface OpenCount {
  open: number;
}

export class TargetDirectory implements Held {
  readonly key: Uint8Array;
  readonly entry: DirectoryEntry | undefined;
  readonly ownersAsUsual: boolean;
  readonly existing: ExistingNames | undefined;
  readonly #files: FileTreeWriter;
  readonly #count: OpenCount;
  readonly #onReleased: (directory: TargetDirectory) => void;
  #descriptor: Descriptor | undefined;
  #holders = 1;
  #identity: { readonly device: bigint; readonly inode: bigint } | undefined;

  constructor(
    files: FileTreeWriter,
    descriptor: Descriptor,
    facts: DirectoryFacts,
    count: OpenCount,
    onReleased: (directory: TargetDirectory) => void,
  ) {
    this.#files = files;
    this.#descriptor = descriptor;
    this.#onReleased = onReleased;
    this.#count = count;
    count.open++;
    this.key = facts.key;
    this.entry = facts.entry;
    this.ownersAsUsual = facts.ownersAsUsual;
    this.existing = facts.existing;
  }

  get descriptor(): Descriptor {
    invariant(this.#descriptor !== undefined, 'a directory is open while it is used');
    return this.#descriptor;
  }

  get open(): boolean {
    return this.#descriptor !== undefined;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    this.#holders--;
    invariant(this.#holders >= 0, 'a directory is released once per holder');
    if (this.#holders === 0) this.#onReleased(this);
  }

  /** Closes the descriptor when only the walk holds it. */
  suspend(): boolean {
    if (this.#holders > 1 || this.#descriptor === undefined) return false;
    const { device, inode } = this.#files.stat(this.#descriptor);
    this.#identity = { device, inode };
    this.close();
    return true;
  }

  /** Opens it again, below an ancestor. ESTALE when something else stands there now. */
  resume(ancestor: TargetDirectory): void {
    if (this.#descriptor !== undefined) return;
    const below = this.key.subarray(ancestor.key.length === 0 ? 0 : ancestor.key.length + 1);
    const descriptor = openBelow(this.#files, ancestor.descriptor, keyComponents(below));
    const { device, inode } = this.#files.stat(descriptor);
    if (device !== this.#identity?.device || inode !== this.#identity.inode) {
      this.#files.close(descriptor);
      throw new FileTreeError('ESTALE', 'openBeneath');
    }
    this.#descriptor = descriptor;
    this.#count.open++;
  }

  close(): void {
    if (this.#descriptor === undefined) return;
    this.#files.close(this.#descriptor);
    this.#descriptor = undefined;
    this.#count.open--;
  }
}

/** Below PATH_MAX with room for a name. */
const pathBytesMax = 3500;

/** Opens a directory some components below another, none of them a symlink. With none it is the same directory once more. */
export function openBelow(files: FileTreeWriter, from: Descriptor, components: readonly Uint8Array[]): Descriptor {
  let at: Descriptor | undefined;
  for (let i = 0; i < components.length; ) {
    const path: number[] = [];
    do {
      if (path.length > 0) path.push(0x2f);
      path.push(...(components[i++] as Uint8Array));
    } while (i < components.length && path.length + 1 + (components[i] as Uint8Array).length <= pathBytesMax);
    try {
      const next = files.openBeneath(at ?? from, nameAt(Uint8Array.from(path)));
      if (at !== undefined) files.close(at);
      at = next;
    } catch (error) {
      if (at !== undefined) files.close(at);
      throw error;
    }
  }
  invariant(at !== undefined, 'a directory is opened below another');
  return at;
}
