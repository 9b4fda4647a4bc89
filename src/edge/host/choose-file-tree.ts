/** Picks the file tree that works on this machine, by trying it. */
import { lstatSync, mkdtempSync, opendirSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { equalBytes, utf8Bytes } from '../../engine/model/bytes.ts';
import { HoldfastError } from '../../engine/model/errors.ts';
import { FileTreeError, type FileTreeWriter } from '../../engine/ports/file-tree.ts';
import { createNativeFileTree, type NativeFileTree } from './native-file-tree.ts';
import { type NodeAddressing, NodeFileTree } from './node-file-tree.ts';

export type FileTreeName = 'native' | 'node';

export interface FileTreeChoice {
  readonly tree: FileTreeWriter;
  /** For JSON output. */
  readonly name: FileTreeName;
  /** Why not the native one; undefined when it was chosen or not asked for. */
  readonly why: string | undefined;
  /** False where a descriptor of one thread means nothing to another (macOS): work in one thread there. */
  readonly sharedDescriptors: boolean;
}

export interface FileTreeWish {
  /** Set: this one or an error (E_USAGE), for tests and for people who must know. */
  readonly only?: FileTreeName;
  /**
   * True in a lane: the main thread has tried already, so the choice follows without another trial. `only` should carry
   * its result.
   */
  readonly tried?: boolean;
  /** Where the trial may write, default the system's directory for temporary files. */
  readonly temporary?: string;
}

/**
 * One tree for the calling thread; each thread chooses its own.
 */
export function chooseFileTree({ only, tried = false, temporary = tmpdir() }: FileTreeWish = {}): FileTreeChoice {
  let why: string | undefined;
  if (only !== 'node') {
    const native = createNativeFileTree();
    why = native.tree === undefined ? native.why : tried ? undefined : tryOut(native.tree, temporary);
    if (native.tree !== undefined && why === undefined) {
      return { tree: native.tree, name: 'native', why, sharedDescriptors: true };
    }
    if (only === 'native') {
      throw new HoldfastError('E_USAGE', `the native file tree does not work here: ${why}`, {
        remedy: 'Leave the choice of the file tree to Holdfast.',
      });
    }
  }
  const addressing = nodeAddressing();
  return { tree: new NodeFileTree(addressing), name: 'node', why, sharedDescriptors: addressing === 'proc' };
}

/** How the fallback must find names here. */
export function nodeAddressing(): NodeAddressing {
  if (process.platform !== 'linux') return 'paths';
  const tree = new NodeFileTree('proc');
  const root = tree.openRoot('/');
  try {
    tree.list(root);
    return 'proc';
  } catch {
    // No /proc in this container.
    return 'paths';
  } finally {
    tree.close(root);
  }
}

/** Reads and, where it can, writes through the calls that captures and restores rest on. The reason when one fails. */
function tryOut(tree: NativeFileTree, temporary: string): string | undefined {
  let directory: string | undefined;
  try {
    const differs = compareWithNode(tree);
    if (differs !== undefined) return differs;
    removeStale(temporary);
    directory = makeTemporary(temporary);
    if (directory === undefined) return undefined;
    const root = tree.openRoot(directory);
    try {
      return roundTrip(tree, root);
    } finally {
      tree.close(root);
    }
  } catch (error) {
    if (!(error instanceof FileTreeError)) return String(error);
    return placeIsToBlame.has(error.errno) ? undefined : error.message;
  } finally {
    if (directory !== undefined) removeTemporary(directory);
  }
}

/**
 * What a full or failing place for temporary files answers says nothing of the calls. Doing without them for that reason would lose
 * the xattrs of a checkpoint. (EPERM is not here: filters of system calls answer so.)
 */
const placeIsToBlame: ReadonlySet<string> = new Set([
  'ENOSPC',
  'EDQUOT',
  'EROFS',
  'EACCES',
  'EIO',
  'EMFILE',
  'ENFILE',
  'ENOENT',
]);

/** A leftover of the trial is no reason to stop. */
function removeTemporary(directory: string): void {
  try {
    rmSync(directory, { recursive: true, force: true });
  } catch {
    // It is empty or nearly so, and its name says whose it was.
  }
}

const prefix = 'holdfast-probe-';
const probeName = 'probe';
const staleMs = 600_000;
/** A directory for temporary files can hold any number of names; a trial must not take longer for that. */
const namesMax = 1000;

/**
 * What trials of killed processes left: directories of this user that nobody else may enter, with at most the trial's one file. None of
 * them can be exchanged by somebody else meanwhile, and nothing that is not theirs is removed.
 */
function removeStale(parent: string): void {
  try {
    const directory = opendirSync(parent);
    try {
      for (let i = 0; i < namesMax; i++) {
        const entry = directory.readSync();
        if (entry === null) return;
        if (entry.name.startsWith(prefix)) removeIfStale(join(parent, entry.name));
      }
    } finally {
      directory.closeSync();
    }
  } catch {
    // The place is to blame, which the trial itself will find.
  }
}

function removeIfStale(path: string): void {
  try {
    const { uid, mode, mtimeMs } = lstatSync(path);
    const mine = uid === process.geteuid?.() && (mode & 0o170_077) === 0o040_000;
    if (!mine || Date.now() - mtimeMs < staleMs) return;
    rmSync(join(path, probeName), { force: true });
    rmdirSync(path);
  } catch {
    // Another process was faster, or it holds something else.
  }
}

/** Undefined where nothing can be written: a read-only container is no reason to do without system calls. */
function makeTemporary(parent: string): string | undefined {
  try {
    return mkdtempSync(join(parent, prefix));
  } catch {
    return undefined;
  }
}

/** A wrong layout of a structure shows in the stats of `/`. */
function compareWithNode(tree: NativeFileTree): string | undefined {
  const root = tree.openRoot('/');
  try {
    const mine = tree.stat(root);
    const node = lstatSync('/', { bigint: true });
    const same =
      mine.inode === node.ino &&
      mine.device === node.dev &&
      BigInt(mine.mode) === node.mode &&
      BigInt(mine.uid) === node.uid &&
      BigInt(mine.mtimeSec) * 1_000_000_000n + BigInt(mine.mtimeNsec) === node.mtimeNs;
    if (!same) return 'a stat differs from what Node says';
    tree.list(root);
    return undefined;
  } finally {
    tree.close(root);
  }
}

function roundTrip(tree: NativeFileTree, root: ReturnType<NativeFileTree['openRoot']>): string | undefined {
  const name = { names: utf8Bytes(`${probeName}\0`), start: 0 };
  const content = utf8Bytes('round trip');
  const times = { mtimeSec: -1, mtimeNsec: 123_456_789 };
  const nameless = tree.createNameless(root);
  const file = nameless ?? tree.createExclusive(root, name);
  tree.write(file, content, 0, content.length, 0);
  tree.setMode(file, 0o640);
  tree.setTimes(file, times);
  if (nameless !== undefined) tree.linkNameless(nameless, root, name);
  tree.close(file);
  const listed = tree.list(root);
  if (listed.count !== 1 || !equalBytes(listed.names, name.names)) return 'a listing differs from what was written';
  const opened = tree.openFile(root, { names: listed.names, start: 0 });
  try {
    const got = new Uint8Array(content.length + 1);
    const stat = tree.stat(opened);
    const read = tree.read(opened, got, 0, got.length, 0);
    const same = read === content.length && equalBytes(got.subarray(0, read), content);
    if (!same || stat.size !== read || (stat.mode & 0o7777) !== 0o640) return 'a file differs from what was written';
    // A file system may keep coarser times; a wrong layout would give nonsense.
    if (Math.abs(stat.mtimeSec - times.mtimeSec) > 2) return 'a time differs from what was written';
    tree.xattrs(opened);
    tree.xattrsOfName(root, name);
  } finally {
    tree.close(opened);
  }
  return undefined;
}
