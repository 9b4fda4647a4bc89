import type { StatsFs } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import type { Right, StoreFinding, StoreInspector, StoreRights } from '../../engine/ports/store-inspector.ts';
import { fileSystemOfType } from '../host/file-system-type.ts';
import { toStoreError } from './store-error.ts';

const freeBytesLow = 1024 ** 3;
const freeShareLow = 0.05;

/** Looks at the directory of a store. Nothing is written. */
export class DirectoryInspector implements StoreInspector {
  readonly policies = undefined;
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async settings(): Promise<readonly StoreFinding[]> {
    try {
      const space = await statfs(this.#path);
      const { mode } = await stat(this.#path);
      return [kindOf(space.type), roomOf(space), accessOf(mode)];
    } catch (error) {
      throw toStoreError(error, `looking at ${this.#path}`, 'read', { store: this.#path });
    }
  }

  /** The owner of a directory may do everything in it, whatever Holdfast does. */
  async rights(): Promise<StoreRights> {
    return { overwrite: 'granted', delete: 'granted', abortUpload: 'granted', listUploads: 'granted' };
  }

  async completionRefused(): Promise<Right | undefined> {
    return undefined;
  }
}

function kindOf(type: number): StoreFinding {
  const { type: name } = fileSystemOfType(type);
  const check = 'file-system';
  if (name === 'tmpfs' || name === 'ramfs') {
    return {
      check,
      state: 'warning',
      seen: `${name}: gone when the machine restarts`,
      remedy: 'Keep checkpoints on a disk.',
    };
  }
  if (name === 'nfs' || name === 'cifs' || name === 'smb2') {
    const remedy =
      'Export with sync and mount hard, so that what is reported as stored survives a crash of the server.';
    return { check, state: 'warning', seen: name, remedy };
  }
  return { check, state: 'ok', seen: name };
}

function roomOf({ bavail, blocks, bsize, ffree, files }: StatsFs): StoreFinding {
  const free = bavail * bsize;
  const low = free < freeBytesLow || bavail < blocks * freeShareLow || (files > 0 && ffree < files * freeShareLow);
  const seen = `${(free / 1024 ** 3).toFixed(1)} GiB free${files > 0 ? `, ${ffree} inodes` : ''}`;
  return {
    check: 'room',
    state: low ? 'warning' : 'ok',
    seen,
    ...(low ? { remedy: 'Make room: a full store loses nothing, and takes no checkpoint.' } : {}),
  };
}

function accessOf(mode: number): StoreFinding {
  const bits = (mode & 0o777).toString(8).padStart(4, '0');
  const check = 'access';
  if ((mode & 0o022) === 0) return { check, state: 'ok', seen: `mode ${bits}` };
  const remedy = 'Let only the user that Holdfast runs as write there: chmod go-w.';
  return { check, state: 'warning', seen: `mode ${bits}: others may write`, remedy };
}
