/** What stands in the directory that is restored into, and taking it away. */
import { equalBytes, utf8Bytes } from '../model/bytes.ts';
import { fileType, fileTypeMask, recordName, statOffset, statRecordBytes, viewOf } from '../model/stat-record.ts';
import type { Descriptor, FileTreeReader, FileTreeWriter } from '../ports/file-tree.ts';
import { removeName } from './existing.ts';

const lostAndFound = utf8Bytes('lost+found');

/** Nothing, only what a fresh ext4 volume has, or more. */
export function contentOf(files: FileTreeReader, root: Descriptor): 'nothing' | 'lost+found' | 'more' {
  const block = files.list(root);
  if (block.count === 0) return 'nothing';
  const view = viewOf(block.records);
  const isDirectory = (view.getUint32(statOffset.mode, true) & fileTypeMask) === fileType.directory;
  return block.count === 1 && isDirectory && equalBytes(recordName(block, view, 0), lostAndFound)
    ? 'lost+found'
    : 'more';
}

/** Removes all that stands there, `lost+found` excepted. No symlink is followed. FileTreeError. */
export function clearContent(files: FileTreeWriter, root: Descriptor): void {
  const block = files.list(root);
  const view = viewOf(block.records);
  for (let i = 0; i < block.count; i++) {
    const name = recordName(block, view, i);
    const type = view.getUint32(i * statRecordBytes + statOffset.mode, true) & fileTypeMask;
    if (type === fileType.directory && equalBytes(name, lostAndFound)) continue;
    removeName(files, root, name, type);
  }
}
