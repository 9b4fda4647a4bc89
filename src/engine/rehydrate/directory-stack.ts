/**
 * The directories from the target's own down to where the walk of the tree stands.
 *
 * Invariants: a key is only taken below a directory of the tree that is on this stack, so no entry can be written below a file,
 * a symlink, or nothing. A directory is made when something in it is wanted, not before. Of a deep stack only some stay open.
 */
import { HoldfastError, invariant } from '../model/errors.ts';
import { displayPath } from '../model/rel-path.ts';
import type { TargetDirectory } from './target-directory.ts';

export interface DirectoryFrame {
  readonly key: Uint8Array;
  readonly name: Uint8Array;
  /** Its entry; undefined for the target's own directory. */
  readonly entry: { readonly value: Uint8Array; readonly placement: Uint8Array } | undefined;
  /** All of it is wanted. */
  readonly selected: boolean;
  /** All of it is wanted first. */
  readonly first: boolean;
  directory: TargetDirectory | undefined;
  /** Something that stays stands in its place: nothing of it is restored. */
  blocked: boolean;
}

/** The last ones are open, and of those above every 64th, of those far above every 1024th. */
const nearDepth = 64;
const farDepth = 4096;
const farStep = 1024;

export class DirectoryStack {
  readonly #frames: DirectoryFrame[] = [];
  readonly #onLeft: (frame: DirectoryFrame) => void;

  /** `onLeft`: the walk is through with a directory. */
  constructor(root: DirectoryFrame, onLeft: (frame: DirectoryFrame) => void) {
    this.#frames.push(root);
    this.#onLeft = onLeft;
  }

  get top(): DirectoryFrame {
    const top = this.#frames[this.#frames.length - 1];
    invariant(top !== undefined, 'the target itself stays on the stack');
    return top;
  }

  /**
   * The directory that holds the key, after those before it were left. Undefined when the tree has no such directory before
   * the key.
   */
  parentOf(key: Uint8Array): DirectoryFrame | undefined {
    while (this.#frames.length > 1 && !isBelow(key, this.top.key)) this.#leave();
    const top = this.top;
    if (top.directory?.open === false) this.#resume(this.#frames.length - 1);
    const nameStart = top.key.length === 0 ? 0 : top.key.length + 1;
    return key.indexOf(0, nameStart) < 0 ? top : undefined;
  }

  push(frame: DirectoryFrame): void {
    this.#frames.push(frame);
    this.#suspend(this.#frames.length - 1 - nearDepth, 64);
    this.#suspend(this.#frames.length - 1 - farDepth, farStep);
  }

  /** Calls `make` for each frame on the stack that is not made yet, from above, until one is blocked. The top's directory. */
  made(make: (frame: DirectoryFrame, parent: TargetDirectory) => void): TargetDirectory | undefined {
    const top = this.top;
    if (top.directory?.open === true) return top.directory;
    if (top.blocked) return undefined;
    if (top.directory !== undefined) return this.#resume(this.#frames.length - 1);
    let from = this.#frames.length - 1;
    while (this.#frames[from]?.directory === undefined) {
      if (this.#frames[from]?.blocked === true) return undefined;
      from--;
    }
    let parent = this.#resume(from);
    for (let i = from + 1; i < this.#frames.length; i++) {
      const frame = this.#frames[i] as DirectoryFrame;
      make(frame, parent);
      if (frame.directory === undefined) return undefined;
      parent = frame.directory;
    }
    return parent;
  }

  /** Leaves all but the target itself. */
  leaveAll(): void {
    while (this.#frames.length > 1) this.#leave();
  }

  /** The same after a failure: nothing is done any more but to let go. */
  abandon(): void {
    while (this.#frames.length > 1) this.#frames.pop()?.directory?.release();
  }

  #leave(): void {
    const frame = this.#frames.pop() as DirectoryFrame;
    // Its last holder gives it its metadata, so it must be open once more.
    if (frame.directory?.open === false) this.#resumeFrame(frame, this.#frames.length);
    this.#onLeft(frame);
  }

  #suspend(index: number, step: number): void {
    if (index > 0 && index % step !== 0) this.#frames[index]?.directory?.suspend();
  }

  #resume(index: number): TargetDirectory {
    const frame = this.#frames[index] as DirectoryFrame;
    return this.#resumeFrame(frame, index);
  }

  #resumeFrame(frame: DirectoryFrame, index: number): TargetDirectory {
    const directory = frame.directory as TargetDirectory;
    if (directory.open) return directory;
    let above = index - 1;
    while (this.#frames[above]?.directory?.open !== true) above--;
    directory.resume(this.#frames[above]?.directory as TargetDirectory);
    return directory;
  }
}

function isBelow(key: Uint8Array, directory: Uint8Array): boolean {
  if (key.length <= directory.length || key[directory.length] !== 0) return false;
  for (let i = directory.length - 1; i >= 0; i--) if (key[i] !== directory[i]) return false;
  return true;
}

export function withoutParent(key: Uint8Array): HoldfastError {
  return new HoldfastError('E_HOSTILE', `refused ${displayPath(key.subarray(0, 1000))}: no directory holds it`);
}
