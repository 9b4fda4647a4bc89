/** Names and listings for tests of the file tree port. */
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import {
  type DirectoryBlock,
  type FileStat,
  readStat,
  recordName,
  statRecordBytes,
  viewOf,
} from '../../src/engine/model/stat-record.ts';
import type { NameAt } from '../../src/engine/ports/file-tree.ts';

/** A name as the port takes it; bytes for names that are not UTF-8. */
export function nameAt(name: string | Uint8Array): NameAt {
  const bytes = typeof name === 'string' ? utf8Bytes(name) : name;
  const names = new Uint8Array(bytes.length + 1);
  names.set(bytes);
  return { names, start: 0 };
}

export interface ListedName {
  readonly name: Uint8Array;
  readonly stat: FileStat;
}

/** A block as objects. */
export function listedNames(block: DirectoryBlock): ListedName[] {
  const view = viewOf(block.records);
  return Array.from({ length: block.count }, (_, i) => ({
    name: recordName(block, view, i).slice(),
    stat: readStat(view, i * statRecordBytes),
  }));
}

/** The names of a block as text of one character per byte. */
export function nameTexts(block: DirectoryBlock): string[] {
  return listedNames(block).map(({ name }) => Buffer.from(name).toString('latin1'));
}
