/**
 * Opens directories of a volume by their keys, one after the other, each from the nearest that is still open: sorted keys cost
 * one opening for each directory.
 *
 * Invariants: no symlink is followed, no other device is entered, and nothing below a name that is left out. At most
 * `depthMax` descriptors are open.
 */
import { keyOfText } from '../model/rel-path.ts';
import { statOffset, viewOf } from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeReader } from '../ports/file-tree.ts';
import { statBytes } from './lane-job.ts';
import { DirectoryHandle } from './scan.ts';
import type { Selection } from './select.ts';
import { TooManyChanges } from './too-many-changes.ts';

const depthMax = 256;

interface OpenStep {
  /** Text of the directory's key. */
  readonly path: string;
  readonly handle: DirectoryHandle;
}

export class OpenPath {
  /** Of the volume's root. */
  readonly device: bigint;
  /** Of the last directory that could not be opened: what stood in the way. */
  errno = '';
  readonly #files: FileTreeReader;
  readonly #selection: Selection;
  readonly #root: DirectoryHandle;
  readonly #steps: OpenStep[] = [];
  readonly #stat: Uint8Array = new Uint8Array(statBytes);

  constructor(files: FileTreeReader, root: Descriptor, selection: Selection) {
    this.#files = files;
    this.#selection = selection;
    this.#root = new DirectoryHandle(files, root);
    // The root is the caller's.
    this.#root.hold();
    this.device = files.stat(root).device;
  }

  /**
   * The directory at the key of this text, open until the next call; who needs it longer holds it. Undefined when it is not there,
   * cannot be opened, or is left out; `errno` says why. Throws FileTreeError when descriptors run out, and TooManyChanges where it
   * lies too deep.
   */
  open(path: string): DirectoryHandle | undefined {
    while (this.#steps.length > 0 && !isAtOrBelow(path, this.#top().path)) this.#leave();
    let step = this.#steps.length === 0 ? '' : this.#top().path;
    while (step !== path) {
      const from = step === '' ? 0 : step.length + 1;
      const end = path.indexOf('\0', from);
      step = end < 0 ? path : path.slice(0, end);
      if (!this.#enter(step, from)) return undefined;
    }
    return this.#steps.length === 0 ? this.#root : this.#top().handle;
  }

  close(): void {
    while (this.#steps.length > 0) this.#leave();
  }

  #enter(path: string, nameStart: number): boolean {
    if (this.#steps.length >= depthMax) throw new TooManyChanges();
    const key = keyOfText(path);
    if (!this.#selection.selects(key, true)) return this.#refuse('ENOENT');
    const parent = this.#steps.length === 0 ? this.#root : this.#top().handle;
    const names = new Uint8Array(key.length - nameStart + 1);
    names.set(key.subarray(nameStart));
    let handle: DirectoryHandle;
    try {
      handle = new DirectoryHandle(this.#files, this.#files.openDirectory(parent.descriptor, { names, start: 0 }));
    } catch (error) {
      if (!(error instanceof FileTreeError) || error.errno === 'EMFILE' || error.errno === 'ENFILE') throw error;
      return this.#refuse(error.errno);
    }
    this.#steps.push({ path, handle });
    this.#files.statInto(handle.descriptor, this.#stat, 0);
    if (viewOf(this.#stat).getBigUint64(statOffset.device, true) === this.device) return true;
    this.#leave();
    return this.#refuse('EXDEV');
  }

  #refuse(errno: string): false {
    this.errno = errno;
    return false;
  }

  #top(): OpenStep {
    return this.#steps[this.#steps.length - 1] as OpenStep;
  }

  #leave(): void {
    (this.#steps.pop() as OpenStep).handle.release();
  }
}

function isAtOrBelow(path: string, directory: string): boolean {
  return path === directory || (path.startsWith(directory) && path[directory.length] === '\0');
}
