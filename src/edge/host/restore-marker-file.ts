/**
 * The mark of a restore as a small file of the user's state directory, one for each lineage and target path. It is replaced
 * whole and durable before the restore goes on; one that cannot be read counts as absent, as a torn one would.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { toKeyPart } from '../../engine/format/object-keys.ts';
import { type LineageName, type Slot, toSlot, toVolumeName } from '../../engine/model/ids.ts';
import type { RestoreMark, RestoreMarker } from '../../engine/ports/restore-marker.ts';
import { readText, replaceText } from './private-directory.ts';

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
    const text = await readText(this.path);
    if (text === undefined) return undefined;
    try {
      return parse(text);
    } catch {
      return undefined;
    }
  }

  save(mark: RestoreMark): Promise<void> {
    return replaceText(this.path, `${JSON.stringify({ version, slot: this.#slot, ...mark }, undefined, 2)}\n`);
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
