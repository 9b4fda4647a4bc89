/** What stands in the target already: names of a directory beside those of the tree, and taking away what must go. */
import { compareBytes, equalBytes } from '../model/bytes.ts';
import type { EntryMeta } from '../model/entry.ts';
import {
  type DirectoryBlock,
  fileType,
  fileTypeMask,
  readI64,
  readU64,
  recordName,
  statOffset,
  statRecordBytes,
  viewOf,
} from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import { nameAt } from './apply-meta.ts';

/**
 * How existing names are met. fresh: there are none. resume: those of an unfinished restore; what is complete stays. keep: every
 * existing path stays as it is. replace: the target becomes equal to the tree.
 */
export type ExistingPolicy = 'fresh' | 'resume' | 'keep' | 'replace';

/** The names of one directory, met in the order of the tree's. */
export class ExistingNames {
  readonly #block: DirectoryBlock;
  readonly #view: DataView;
  #index = 0;

  constructor(block: DirectoryBlock) {
    this.#block = block;
    this.#view = viewOf(block.records);
  }

  get count(): number {
    return this.#block.count;
  }

  name(index: number): Uint8Array {
    return recordName(this.#block, this.#view, index);
  }

  /** Names are asked for in ascending order; those between are handed to `onPassed`. Undefined when it is not there. */
  find(name: Uint8Array, onPassed: (name: Uint8Array, type: number) => void): ExistingName | undefined {
    while (this.#index < this.#block.count) {
      const found = this.name(this.#index);
      const order = compareBytes(found, name);
      if (order > 0) return undefined;
      const at = this.#index * statRecordBytes;
      this.#index++;
      if (order === 0) return new ExistingName(this.#view, at);
      onPassed(found, this.#view.getUint32(at, true) & fileTypeMask);
    }
    return undefined;
  }

  /** Hands over the names that are left. */
  finish(onPassed: (name: Uint8Array, type: number) => void): void {
    while (this.#index < this.#block.count) {
      const at = this.#index * statRecordBytes;
      onPassed(this.name(this.#index++), this.#view.getUint32(at, true) & fileTypeMask);
    }
  }
}

/** A name that stands in the target, as it was listed. */
export class ExistingName {
  readonly #view: DataView;
  readonly #at: number;

  constructor(view: DataView, at: number) {
    this.#view = view;
    this.#at = at;
  }

  get type(): number {
    return this.#view.getUint32(this.#at + statOffset.mode, true) & fileTypeMask;
  }

  get links(): number {
    return this.#view.getUint32(this.#at + statOffset.nlink, true);
  }

  get size(): number {
    return readU64(this.#view, this.#at + statOffset.size);
  }

  /** Mode (not of symlinks) and mtime are those of the entry. */
  sameStamp(meta: EntryMeta): boolean {
    const view = this.#view;
    const at = this.#at;
    return (
      (this.type === fileType.symlink || (view.getUint32(at + statOffset.mode, true) & 0o7777) === meta.mode) &&
      readI64(view, at + statOffset.mtimeSec) === meta.mtimeSec &&
      view.getUint32(at + statOffset.mtimeNsec, true) === meta.mtimeNsec
    );
  }

  sameOwner(meta: EntryMeta): boolean {
    const view = this.#view;
    return (
      view.getUint32(this.#at + statOffset.uid, true) === meta.uid &&
      view.getUint32(this.#at + statOffset.gid, true) === meta.gid
    );
  }
}

/** Removes a name and all below it; no symlink is followed. What vanishes meanwhile is gone too. FileTreeError. */
export function removeName(files: FileTreeWriter, directory: Descriptor, name: Uint8Array, type: number): void {
  if (type === fileType.directory) removeDirectory(files, directory, name);
  else unlink(() => files.removeFile(directory, nameAt(name)));
}

function removeDirectory(files: FileTreeWriter, parent: Descriptor, name: Uint8Array): void {
  while (!removeRound(files, parent, name)) {
    // Something lay deeper than descriptors reach; each round takes away its lower end.
  }
}

/** Open directories on the way down; those above are closed, and found again in the next round. */
const windowDepth = 200;

interface RemovalFrame {
  descriptor: Descriptor | undefined;
  readonly name: Uint8Array;
  readonly subdirectories: Uint8Array[];
}

/** True when the directory is gone, false when another round is needed. */
function removeRound(files: FileTreeWriter, parent: Descriptor, name: Uint8Array): boolean {
  const stack: RemovalFrame[] = [];
  const enter = (above: Descriptor, child: Uint8Array): void => {
    const descriptor = openToRemove(files, above, child);
    if (descriptor === undefined) return;
    const frame: RemovalFrame = { descriptor, name: child, subdirectories: [] };
    stack.push(frame);
    const block = files.list(descriptor);
    const view = viewOf(block.records);
    for (let i = 0; i < block.count; i++) {
      const inside = recordName(block, view, i);
      const type = view.getUint32(i * statRecordBytes, true) & fileTypeMask;
      if (type === fileType.directory) frame.subdirectories.push(inside);
      else unlink(() => files.removeFile(descriptor, nameAt(inside)));
    }
    const far = stack[stack.length - 1 - windowDepth];
    if (far?.descriptor === undefined) return;
    files.close(far.descriptor);
    far.descriptor = undefined;
  };
  try {
    enter(parent, name);
    for (;;) {
      const top = stack[stack.length - 1];
      if (top === undefined) {
        unlink(() => files.removeDirectory(parent, nameAt(name)));
        return true;
      }
      if (top.descriptor === undefined) return false;
      const next = top.subdirectories.pop();
      if (next !== undefined) {
        enter(top.descriptor, next);
        continue;
      }
      stack.pop();
      files.close(top.descriptor);
      const above = stack[stack.length - 1]?.descriptor;
      if (above !== undefined) unlink(() => files.removeDirectory(above, nameAt(top.name)));
    }
  } finally {
    for (const { descriptor } of stack) if (descriptor !== undefined) files.close(descriptor);
  }
}

function openToRemove(files: FileTreeWriter, parent: Descriptor, name: Uint8Array): Descriptor | undefined {
  try {
    return files.openBeneath(parent, nameAt(name));
  } catch (error) {
    if (!(error instanceof FileTreeError)) throw error;
    if (error.errno === 'ENOENT') return undefined;
    if (error.errno !== 'EACCES') throw error;
    files.setModeOfName(parent, nameAt(name), 0o700);
    return files.openBeneath(parent, nameAt(name));
  }
}

function unlink(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!(error instanceof FileTreeError) || error.errno !== 'ENOENT') throw error;
  }
}

/** True when the name of the directory is a symlink with that target. */
export function isLinkTo(files: FileTreeWriter, directory: Descriptor, name: Uint8Array, target: Uint8Array): boolean {
  try {
    return equalBytes(files.readLink(directory, nameAt(name)), target);
  } catch (error) {
    if (error instanceof FileTreeError) return false;
    throw error;
  }
}
