/**
 * Random directory trees and random edits of them, made through the file tree port, so that they work on a real disk and in
 * memory alike. From fast-check, so that a failing tree shrinks; `sampleTree` gives one tree for a seed.
 */
import fc from 'fast-check';
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { fileType, fileTypeMask, statOffset, statRecordBytes, viewOf } from '../../src/engine/model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter, type TimesAt } from '../../src/engine/ports/file-tree.ts';
import { listedNames, nameAt } from './tree-names.ts';

/** Bytes to write at a position: what lies between runs is a hole. */
export interface SpecRun {
  readonly at: number;
  readonly bytes: number;
  /** Chooses the content; 0 is zeros. */
  readonly seed: number;
}

interface SpecMeta {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly time: TimesAt;
  readonly xattrs: readonly (readonly [string, Uint8Array])[];
}

export type SpecNode =
  | ({ readonly type: 'file'; readonly size: number; readonly runs: readonly SpecRun[] } & SpecMeta)
  | ({ readonly type: 'directory'; readonly children: readonly SpecEntry[] } & SpecMeta)
  | ({ readonly type: 'symlink'; readonly target: Uint8Array } & SpecMeta)
  | ({ readonly type: 'fifo' } & SpecMeta)
  /** A further name of a file made before: `pick` of 0 to 1 chooses among them; an empty file of its own when there is none. */
  | { readonly type: 'hardlink'; readonly pick: number };

export interface SpecEntry {
  readonly name: Uint8Array;
  readonly node: SpecNode;
}

export interface TreeSpecOptions {
  /** Entries of one directory, default 8. */
  readonly childrenMax?: number;
  /** Levels of directories, default 4. */
  readonly depthMax?: number;
  /** Largest file, default 300 kB. */
  readonly fileBytesMax?: number;
  /** Other owners than the process's own, default false: setting them needs privileges. */
  readonly owners?: boolean;
  /** Names and targets that are not UTF-8, default true. */
  readonly anyName?: boolean;
  readonly xattrs?: boolean;
  readonly fifos?: boolean;
  readonly hardlinks?: boolean;
  /** Times are multiples of this, default 1; 1000 for what cannot keep nanoseconds. */
  readonly timeStepNs?: number;
}

export function treeArbitrary(options: TreeSpecOptions = {}): fc.Arbitrary<readonly SpecEntry[]> {
  const { childrenMax = 8, depthMax = 4, fileBytesMax = 300_000, anyName = true } = options;
  const name = nameArbitrary(anyName);
  const meta = metaArbitrary(options);
  const file = fc
    .tuple(meta, sizeArbitrary(fileBytesMax), fc.array(runArbitrary, { maxLength: 3 }), fc.boolean())
    .map(([base, size, runs, whole]): SpecNode => {
      const placed = runs.map((run) => ({ ...run, at: Math.floor(run.at * size) }));
      const filled = whole ? [{ at: 0, bytes: size, seed: 1 + (size % 97) }, ...placed] : placed;
      const cut = filled.map((run) => ({ ...run, bytes: Math.min(run.bytes, size - run.at) }));
      return { type: 'file', size, runs: cut, ...base };
    });
  const target = fc.oneof(name, fc.constantFrom('..', '/etc/passwd', '../../x', 'a/b/../c', 'self').map(utf8Bytes));
  const symlink = fc
    .tuple(meta, target)
    .map(([base, to]): SpecNode => ({ type: 'symlink', target: to, ...base, xattrs: [] }));
  const fifo = meta.map((base): SpecNode => ({ type: 'fifo', ...base, xattrs: [] }));
  const hardlink = fc.double({ min: 0, max: 0.999, noNaN: true }).map((pick): SpecNode => ({ type: 'hardlink', pick }));
  const leaves: fc.WeightedArbitrary<SpecNode>[] = [
    { weight: 12, arbitrary: file },
    { weight: 2, arbitrary: symlink },
  ];
  if (options.fifos ?? true) leaves.push({ weight: 1, arbitrary: fifo });
  if (options.hardlinks ?? true) leaves.push({ weight: 2, arbitrary: hardlink });

  const level = (depth: number): fc.Arbitrary<readonly SpecEntry[]> => {
    const nodes = [...leaves];
    if (depth < depthMax) {
      const directory = fc
        .tuple(
          meta,
          fc.constant(null).chain(() => level(depth + 1)),
        )
        .map(([base, children]): SpecNode => ({ type: 'directory', children, ...base }));
      nodes.push({ weight: 5, arbitrary: directory });
    }
    const entry = fc.record({ name, node: fc.oneof(...nodes) });
    const options = { maxLength: childrenMax, selector: (one: SpecEntry) => Buffer.from(one.name).toString('latin1') };
    return fc.uniqueArray(entry, options);
  };
  return level(0);
}

/** One tree, always the same for a seed. */
export function sampleTree(seed: number, options: TreeSpecOptions = {}): readonly SpecEntry[] {
  // The first samples of a run are small on purpose: a later one is taken.
  return fc.sample(treeArbitrary(options), { seed, numRuns: 20 })[19] as readonly SpecEntry[];
}

/** Makes the tree in an open directory. Directories get their metadata last, so that nothing made in them moves it. */
export function buildTree(tree: FileTreeWriter, root: Descriptor, entries: readonly SpecEntry[]): void {
  build(tree, root, entries, []);
}

export type TreeEdit =
  | { readonly kind: 'write'; readonly pick: number; readonly run: SpecRun }
  | { readonly kind: 'truncate'; readonly pick: number; readonly share: number }
  | { readonly kind: 'mode'; readonly pick: number; readonly mode: number }
  | { readonly kind: 'touch'; readonly pick: number; readonly time: TimesAt }
  | { readonly kind: 'remove'; readonly pick: number }
  | { readonly kind: 'rename'; readonly pick: number; readonly name: Uint8Array }
  | { readonly kind: 'add'; readonly pick: number; readonly entry: SpecEntry };

export function editArbitrary(options: TreeSpecOptions = {}): fc.Arbitrary<TreeEdit> {
  const pick = fc.double({ min: 0, max: 0.999, noNaN: true });
  const name = nameArbitrary(options.anyName ?? true);
  const added = treeArbitrary({ ...options, childrenMax: 3, depthMax: 1 });
  return fc.oneof(
    fc.record({ kind: fc.constant('write' as const), pick, run: runArbitrary }),
    fc.record({ kind: fc.constant('truncate' as const), pick, share: fc.double({ min: 0, max: 2, noNaN: true }) }),
    fc.record({ kind: fc.constant('mode' as const), pick, mode: modeArbitrary }),
    fc.record({ kind: fc.constant('touch' as const), pick, time: timeArbitrary(options.timeStepNs ?? 1) }),
    fc.record({ kind: fc.constant('remove' as const), pick }),
    fc.record({ kind: fc.constant('rename' as const), pick, name }),
    fc
      .tuple(pick, added)
      .filter(([, entries]) => entries.length > 0)
      .map(([at, entries]) => ({ kind: 'add' as const, pick: at, entry: entries[0] as SpecEntry })),
  );
}

/** Applies edits one after the other; one that finds nothing to work on, or a name that is taken, does nothing. */
export function applyEdits(tree: FileTreeWriter, root: Descriptor, edits: readonly TreeEdit[]): void {
  for (const edit of edits) {
    const paths = walk(tree, root, []);
    try {
      applyEdit(tree, root, edit, paths);
    } catch (error) {
      const harmless = ['EEXIST', 'ENOENT', 'ENOTEMPTY', 'ENOTSUP', 'EPERM'];
      if (!(error instanceof FileTreeError) || !harmless.includes(error.errno)) throw error;
    }
  }
}

// Arbitraries.

/** Only root reads what has no read bit and works in a directory without rights. */
const ownerBits: number = process.getuid?.() === 0 ? 0 : 0o700;

const modeArbitrary: fc.Arbitrary<number> = fc
  .constantFrom(0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o700, 0o444)
  .map((mode) => mode | ownerBits);

const runArbitrary: fc.Arbitrary<SpecRun> = fc.record({
  at: fc.double({ min: 0, max: 0.999, noNaN: true }),
  bytes: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 70_000 })),
  seed: fc.integer({ min: 0, max: 1000 }),
});

function sizeArbitrary(max: number): fc.Arbitrary<number> {
  return fc.oneof(
    fc.constantFrom(0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537).map((size) => Math.min(size, max)),
    fc.integer({ min: 0, max: 2000 }),
    fc.integer({ min: 0, max }),
  );
}

function nameArbitrary(anyName: boolean): fc.Arbitrary<Uint8Array> {
  const plain = fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' }).map(utf8Bytes);
  const common = fc
    .constantFrom('a', 'b', 'ab', 'a.b', 'a-b', 'A', 'ä', '.x', '...', ' ', '\n', '*', '~')
    .map(utf8Bytes);
  const long = fc.integer({ min: 200, max: 255 }).map((length) => new Uint8Array(length).fill(0x6c));
  const raw = fc.uint8Array({ minLength: 1, maxLength: 8, min: 1 });
  const choices = anyName ? [plain, common, long, raw] : [plain, common, long];
  return fc.oneof(...choices).map(toName);
}

/** Nothing that a directory cannot hold. */
function toName(bytes: Uint8Array): Uint8Array {
  const name = bytes.slice(0, 255).map((byte) => (byte === 0 || byte === 0x2f ? 0x5f : byte));
  const text = Buffer.from(name).toString('latin1');
  return text === '.' || text === '..' ? utf8Bytes('_') : name;
}

function timeArbitrary(stepNs: number): fc.Arbitrary<TimesAt> {
  // Inside what ext4 keeps.
  const seconds = fc.oneof(
    fc.integer({ min: 1_000_000_000, max: 1_800_000_000 }),
    fc.integer({ min: -2_147_483_647, max: -1 }),
    fc.integer({ min: 4_000_000_000, max: 15_000_000_000 }),
    fc.constantFrom(0, 1),
  );
  return fc
    .tuple(seconds, fc.integer({ min: 0, max: 999_999_999 }))
    .map(([mtimeSec, nsec]) => ({ mtimeSec, mtimeNsec: nsec - (nsec % stepNs) }));
}

function metaArbitrary(options: TreeSpecOptions): fc.Arbitrary<SpecMeta> {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const ids = options.owners === true ? fc.constantFrom(0, 1, 1000, 65_534, 4_000_000_000) : undefined;
  const xattr = fc.tuple(
    fc.constantFrom('user.a', 'user.b', 'user.mime_type', 'user.ä'),
    fc.oneof(
      fc.uint8Array({ maxLength: 30 }),
      fc.integer({ min: 257, max: 900 }).map((n) => new Uint8Array(n).fill(n)),
    ),
  );
  return fc.record({
    mode: modeArbitrary,
    uid: ids ?? fc.constant(own.uid),
    gid: ids ?? fc.constant(own.gid),
    time: timeArbitrary(options.timeStepNs ?? 1),
    xattrs:
      (options.xattrs ?? true)
        ? fc.uniqueArray(xattr, { maxLength: 2, selector: ([name]) => name })
        : fc.constant<(readonly [string, Uint8Array])[]>([]),
  });
}

// Building.

interface MadeFile {
  readonly path: readonly Uint8Array[];
}

/** Deterministic bytes of a run; zeros for seed 0, text for odd seeds, noise for even ones. */
export function runContent({ bytes, seed }: SpecRun): Uint8Array {
  const content = new Uint8Array(bytes);
  if (seed === 0) return content;
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  for (let i = 0; i < bytes; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    content[i] = seed % 2 === 1 ? 0x61 + ((state >>> 8) % 7) : state;
  }
  return content;
}

function build(
  tree: FileTreeWriter,
  root: Descriptor,
  entries: readonly SpecEntry[],
  files: MadeFile[],
  directory: Descriptor = root,
  path: readonly Uint8Array[] = [],
): void {
  for (const { name, node } of entries) {
    const here = [...path, name];
    if (node.type === 'hardlink') {
      const first = files[Math.floor(node.pick * files.length)];
      if (first === undefined) {
        const alone = tree.createExclusive(directory, nameAt(name));
        tree.setTimes(alone, { mtimeSec: 1, mtimeNsec: 0 });
        tree.close(alone);
        files.push({ path: here });
      } else {
        inParent(tree, root, first.path, (parent, last) =>
          tree.makeLink(parent, nameAt(last), directory, nameAt(name)),
        );
      }
    } else if (node.type === 'symlink') {
      tree.makeSymlink(directory, nameAt(name), node.target);
      setOwnerOfName(tree, directory, name, node);
      tree.setTimesOfName(directory, nameAt(name), node.time);
    } else if (node.type === 'fifo') {
      tree.makeFifo(directory, nameAt(name));
      setOwnerOfName(tree, directory, name, node);
      tree.setModeOfName(directory, nameAt(name), node.mode);
      tree.setTimesOfName(directory, nameAt(name), node.time);
    } else if (node.type === 'directory') {
      tree.makeDirectory(directory, nameAt(name));
      const below = tree.openDirectory(directory, nameAt(name));
      build(tree, root, node.children, files, below, here);
      setMeta(tree, below, node);
      tree.close(below);
    } else {
      const file = tree.createExclusive(directory, nameAt(name));
      for (const run of node.runs) tree.write(file, runContent(run), 0, run.bytes, run.at);
      tree.truncate(file, node.size);
      setMeta(tree, file, node);
      tree.close(file);
      files.push({ path: here });
    }
  }
}

function setMeta(tree: FileTreeWriter, descriptor: Descriptor, meta: SpecMeta): void {
  const { uid, gid } = tree.stat(descriptor);
  if (meta.uid !== uid || meta.gid !== gid) tree.setOwner(descriptor, meta.uid, meta.gid);
  if (tree.abilities.xattrs) {
    for (const [name, value] of meta.xattrs) tree.setXattr(descriptor, utf8Bytes(name), value);
  }
  tree.setMode(descriptor, meta.mode);
  tree.setTimes(descriptor, meta.time);
}

function setOwnerOfName(tree: FileTreeWriter, directory: Descriptor, name: Uint8Array, meta: SpecMeta): void {
  const record = new Uint8Array(64);
  tree.statNameInto(directory, nameAt(name), record, 0);
  const view = viewOf(record);
  const same = view.getUint32(statOffset.uid, true) === meta.uid && view.getUint32(statOffset.gid, true) === meta.gid;
  if (!same) tree.setOwnerOfName(directory, nameAt(name), meta.uid, meta.gid);
}

// Editing.

interface FoundPath {
  readonly path: readonly Uint8Array[];
  readonly type: number;
}

function walk(tree: FileTreeWriter, directory: Descriptor, path: readonly Uint8Array[]): FoundPath[] {
  const found: FoundPath[] = [];
  const block = tree.list(directory);
  for (const { name, stat } of listedNames(block)) {
    const here = [...path, name];
    const type = stat.mode & fileTypeMask;
    found.push({ path: here, type });
    if (type !== fileType.directory) continue;
    const below = tree.openDirectory(directory, nameAt(name));
    found.push(...walk(tree, below, here));
    tree.close(below);
  }
  return found;
}

/** Calls with the directory that holds the last component, opened on the way and closed again. */
function inParent(
  tree: FileTreeWriter,
  root: Descriptor,
  path: readonly Uint8Array[],
  action: (parent: Descriptor, name: Uint8Array) => void,
): void {
  let at = root;
  try {
    for (const part of path.slice(0, -1)) {
      const next = tree.openDirectory(at, nameAt(part));
      if (at !== root) tree.close(at);
      at = next;
    }
    action(at, path.at(-1) as Uint8Array);
  } finally {
    if (at !== root) tree.close(at);
  }
}

function applyEdit(tree: FileTreeWriter, root: Descriptor, edit: TreeEdit, paths: readonly FoundPath[]): void {
  const pickFrom = (among: readonly FoundPath[]): FoundPath | undefined => among[Math.floor(edit.pick * among.length)];
  if (edit.kind === 'add') {
    const directories = paths.filter(({ type }) => type === fileType.directory);
    const chosen = directories[Math.floor(edit.pick * (directories.length + 1)) - 1];
    const path = [...(chosen?.path ?? []), edit.entry.name];
    inParent(tree, root, path, (parent) => build(tree, root, [edit.entry], [], parent, path.slice(0, -1)));
    return;
  }
  const files = paths.filter(({ type }) => type === fileType.regular);
  const onContent = edit.kind === 'write' || edit.kind === 'truncate';
  const found = pickFrom(onContent ? files : paths);
  if (found === undefined) return;
  inParent(tree, root, found.path, (parent, name) => {
    if (edit.kind === 'remove') removeAll(tree, parent, name, found.type);
    else if (edit.kind === 'rename') tree.rename(parent, nameAt(name), nameAt(edit.name), false);
    else if (edit.kind === 'mode') tree.setModeOfName(parent, nameAt(name), edit.mode);
    else if (edit.kind === 'touch') tree.setTimesOfName(parent, nameAt(name), edit.time);
    else rewrite(tree, parent, name, edit);
  });
}

/** The port gives no way to write into a file that exists, so content is changed as many programs do: by a new file. */
function rewrite(
  tree: FileTreeWriter,
  parent: Descriptor,
  name: Uint8Array,
  edit: Extract<TreeEdit, { kind: 'write' | 'truncate' }>,
): void {
  const before = tree.openFile(parent, nameAt(name));
  const size = tree.stat(before).size;
  const content = new Uint8Array(size);
  for (let at = 0; at < size; ) {
    const got = tree.read(before, content, at, size - at, at);
    if (got === 0) break;
    at += got;
  }
  const mode = tree.stat(before).mode & 0o7777;
  tree.close(before);
  const temporary = nameAt('.edit-in-progress');
  const file = tree.createExclusive(parent, temporary);
  tree.write(file, content, 0, size, 0);
  if (edit.kind === 'truncate') tree.truncate(file, Math.floor(size * edit.share));
  else tree.write(file, runContent(edit.run), 0, edit.run.bytes, Math.floor(edit.run.at * size));
  tree.setMode(file, mode);
  tree.close(file);
  tree.rename(parent, temporary, nameAt(name), true);
}

/** Also whole directories. */
function removeAll(tree: FileTreeWriter, parent: Descriptor, name: Uint8Array, type: number): void {
  if (type !== fileType.directory) {
    tree.removeFile(parent, nameAt(name));
    return;
  }
  const directory = tree.openDirectory(parent, nameAt(name));
  const block = tree.list(directory);
  const view = viewOf(block.records);
  for (const [i, entry] of listedNames(block).entries()) {
    const mode = view.getUint32(i * statRecordBytes + statOffset.mode, true);
    removeAll(tree, directory, entry.name, mode & fileTypeMask);
  }
  tree.close(directory);
  tree.removeDirectory(parent, nameAt(name));
}
