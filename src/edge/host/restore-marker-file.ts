/**
 * The mark of a restore as a small file of the user's state directory, one for each lineage and target path. It is replaced
 * whole and durable before the restore goes on; one that cannot be read counts as absent, as a torn one would.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { toKeyPart } from '../../engine/format/object-keys.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import { type LineageName, type Slot, toSlot, toVolumeName } from '../../engine/model/ids.ts';
import type { RestoreMark, RestoreMarker } from '../../engine/ports/restore-marker.ts';

export interface RestoreMarkerOptions {
  readonly stateDirectory: string;
  /** Id of the repository. */
  readonly repository: string;
  readonly lineage: LineageName;
  /** The target's directory, with symlinks resolved. */
  readonly path: string;
  /** Slot of the checkpoint that is restored, to be kept with the mark; 0 when only an earlier mark is of interest. */
  readonly slot: Slot;
}

const version = 1;

export class RestoreMarkerFile implements RestoreMarker {
  readonly path: string;
  readonly #slot: Slot;

  constructor({ stateDirectory, repository, lineage, path, slot }: RestoreMarkerOptions) {
    const name = createHash('sha256').update(path).digest('hex').slice(0, 32);
    this.path = join(stateDirectory, 'restores', repository, toKeyPart(lineage), `${name}.json`);
    this.#slot = slot;
  }

  async load(): Promise<RestoreMark | undefined> {
    return (await this.loadWithSlot())?.mark;
  }

  /** The mark, and the slot of the checkpoint that it is about. */
  async loadWithSlot(): Promise<{ readonly mark: RestoreMark; readonly slot: Slot } | undefined> {
    let text: string;
    try {
      text = await readFile(this.path, 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new HoldfastError('E_STATE_DIR', `cannot read ${this.path}`, { cause });
    }
    try {
      return parse(text);
    } catch {
      return undefined;
    }
  }

  async save(mark: RestoreMark): Promise<void> {
    const unfinished = `${this.path}.new`;
    try {
      await makeDirectory(dirname(this.path));
      const file = await open(unfinished, 'w', 0o600);
      try {
        await file.writeFile(`${JSON.stringify({ version, slot: this.#slot, ...mark }, undefined, 2)}\n`);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(unfinished, this.path);
      await syncDirectory(dirname(this.path));
    } catch (cause) {
      throw new HoldfastError('E_STATE_DIR', `cannot write ${this.path}`, { cause });
    }
  }
}

/** TypeError when it is not what `save` wrote. */
function parse(text: string): { readonly mark: RestoreMark; readonly slot: Slot } {
  const plain = JSON.parse(text) as Readonly<Record<string, unknown>>;
  const textOf = (name: string): string => {
    const value = plain[name];
    if (typeof value !== 'string') throw new TypeError(name);
    return value;
  };
  const oneOf = <Choice extends string>(name: string, choices: readonly Choice[]): Choice => {
    const found = choices.find((choice) => choice === plain[name]);
    if (found === undefined) throw new TypeError(name);
    return found;
  };
  if (plain['version'] !== version || typeof plain['slot'] !== 'number') throw new TypeError('version or slot');
  return {
    slot: toSlot(plain['slot']),
    mark: {
      state: oneOf('state', ['started', 'damaged', 'done']),
      checkpoint: textOf('checkpoint'),
      volume: toVolumeName(textOf('volume')),
      target: textOf('target'),
      selection: textOf('selection'),
      onExisting: oneOf('onExisting', ['refuse', 'keep', 'replace']),
      tempPrefix: textOf('tempPrefix'),
    },
  };
}

/** Makes the directory and makes its name durable, and those of all parents that were missing. */
async function makeDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncDirectory(dirname(made));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
