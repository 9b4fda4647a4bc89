/** The regular files of a volume, one after the other, outside of any pass: nothing is compared, stored or remembered. */
import { fileType, fileTypeMask, readStat, viewOf } from '../model/stat-record.ts';
import type { Descriptor, FileTreeReader } from '../ports/file-tree.ts';
import { type DirectoryHandle, releaseOperations, scanVolume } from './scan.ts';
import type { Selection } from './select.ts';

export interface WalkedFile {
  readonly key: Uint8Array;
  /** Open during the visit; who needs it longer holds it. */
  readonly directory: DirectoryHandle;
  /** Without an ending zero. */
  readonly name: Uint8Array;
  readonly size: number;
  readonly nlink: number;
}

export interface FileWalk {
  readonly files: FileTreeReader;
  readonly root: Descriptor;
  readonly selection: Selection;
  /** Lets other work of the process have its turn. */
  readonly breathe: () => Promise<void>;
  readonly signal: AbortSignal | undefined;
}

/**
 * Visits each selected regular file in key order; of a file with several names the first. What cannot be listed is left out:
 * the passes report it.
 */
export async function walkFiles(walk: FileWalk, visit: (file: WalkedFile) => void): Promise<void> {
  const scan = scanVolume({
    files: walk.files,
    root: walk.root,
    selection: walk.selection,
    previous: undefined,
    next: undefined,
    freshFromMs: Number.POSITIVE_INFINITY,
    distrustContent: false,
    keepVolatile: new Set(),
    onVolatile: () => undefined,
    onSkip: () => undefined,
    totals: { entries: 0, directories: 0, files: 0, bytes: 0 },
  });
  for (const { operations } of scan) {
    try {
      walk.signal?.throwIfAborted();
      for (const operation of operations) {
        if (operation.kind !== 'read') continue;
        const { mode, nlink } = readStat(viewOf(operation.stat), 0);
        if ((mode & fileTypeMask) !== fileType.regular) continue;
        const { key, directory, name, size } = operation;
        visit({ key, directory, name, size, nlink });
      }
    } finally {
      releaseOperations(operations);
    }
    await walk.breathe();
  }
}

/** The name with an ending, as the file tree takes names. */
export function nameWith(name: Uint8Array, ending = ''): { readonly names: Uint8Array; readonly start: 0 } {
  const names = new Uint8Array(name.length + ending.length + 1);
  names.set(name);
  for (let i = 0; i < ending.length; i++) names[name.length + i] = ending.charCodeAt(i);
  return { names, start: 0 };
}
