/**
 * One volume of a checkpoint into one directory: the tree is walked in key order; directories, symlinks and FIFOs are made at
 * once, files go to the planner, further names of files follow when their first name stands, and a directory gets its metadata
 * when the last of what is below it is done.
 *
 * Entries are untrusted: keys were checked when their node was opened, every parent is a directory of the tree that was made
 * here, no symlink is ever passed, and what stands in the way is met as the policy says, never by chance.
 */
import { decodeEntry } from '../format/entry-codec.ts';
import { contentId, type DomainKeys } from '../format/keys.ts';
import type { LeafNode } from '../format/tree-node.ts';
import { compareBytes, emptyBytes, equalBytes, utf8Bytes } from '../model/bytes.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import type { Entry, EntryMeta } from '../model/entry.ts';
import { HoldfastError, invariant, isHoldfastError } from '../model/errors.ts';
import { pathText } from '../model/glob.ts';
import { displayPath, lastComponent } from '../model/rel-path.ts';
import { fileType } from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import type { SegmentSource } from '../tree/segment-source.ts';
import { getEntry } from '../tree/tree-reader.ts';
import { applyToDescriptor, applyToName, type DegradedPart, nameAt, type PlainXattr } from './apply-meta.ts';
import { keptXattrs } from './compare-content.ts';
import type { DamageTally } from './damage.ts';
import { type DirectoryFrame, DirectoryStack, withoutParent } from './directory-stack.ts';
import { type ExistingName, ExistingNames, type ExistingPolicy, isLinkTo, removeName } from './existing.ts';
import type { FileEntry, FilePlanner, PlannedFile } from './file-planner.ts';
import { LinkQueue } from './link-queue.ts';
import type { PathGlobs } from './selection.ts';
import type { NameTally } from '../model/name-tally.ts';
import { type OpenCount, TargetDirectory } from './target-directory.ts';
import { targetError } from './target-error.ts';
import { type KeyRange, walkTree } from './walk-tree.ts';

export interface VolumeRestoreOptions {
  readonly files: FileTreeWriter;
  readonly source: SegmentSource;
  readonly keys: DomainKeys;
  readonly tree: TreeRoot;
  readonly root: Descriptor;
  readonly planner: FilePlanner;
  readonly only: PathGlobs;
  readonly first: PathGlobs;
  /** Names that begin so are leftovers of an earlier run of this restore. */
  readonly tempPrefix: Uint8Array;
  /** Owner of new files in the target's directory, when that is known. */
  readonly usualOwner: { readonly uid: number; readonly gid: number } | undefined;
  readonly damage: DamageTally;
  readonly kept: NameTally;
  readonly removed: NameTally;
  readonly onDegraded: (key: Uint8Array, part: DegradedPart, errno: string) => void;
  /** Entries that are done and no regular files with content: names made, of which `files` count as files. */
  readonly onEntries: (entries: number, files: number) => void;
  readonly signal: AbortSignal | undefined;
}

/** first: what the first globs match. rest: everything else. */
export type Pass = 'first' | 'rest';

/** Directories that may be open at once, besides those on the walk's stack. */
const openDirectoriesMax = 320;
const typeCode = { file: 1, directory: 2, symlink: 3, fifo: 4, hardlink: 5 } as const;
const lostAndFound: Uint8Array = utf8Bytes('lost+found');

export class VolumeRestore {
  readonly #options: VolumeRestoreOptions;
  #links: LinkQueue;
  #policy: ExistingPolicy = 'fresh';
  #pass: Pass = 'rest';
  readonly #directories: OpenCount = { open: 0 };
  /** Nobody writes into these any more; they wait for their metadata. */
  #ready: TargetDirectory[] = [];
  /** Keys, as text, of directories that the first pass made: the second must not take them for somebody else's. */
  readonly #madeFirst = new Set<string>();
  /** First restored name of a group whose first name is not selected, by that name as text. */
  readonly #standIns = new Map<string, Uint8Array>();

  constructor(options: VolumeRestoreOptions) {
    this.#options = options;
    this.#links = this.#newLinks(undefined);
  }

  #newLinks(settle: (() => Promise<void>) | undefined): LinkQueue {
    const { files, root, planner, onEntries } = this.#options;
    return new LinkQueue({
      files,
      root,
      planner,
      settle,
      onEntries,
      onMissing: (link) => this.#onMissingTarget(link.key, link.target),
      ownContent: (link) => this.#ownContent(link.key, link.target, link.directory, link.replace),
    });
  }

  /** Restores what belongs to the pass; when it resolves all of it is there, but in the first pass directories have no metadata. */
  async run(pass: Pass, policy: ExistingPolicy): Promise<void> {
    const { first, planner, root, files } = this.#options;
    this.#pass = pass;
    this.#policy = policy;
    this.#links = this.#newLinks(policy === 'fresh' ? undefined : () => this.#settle());
    const ranges = pass === 'first' ? first.ranges : undefined;
    const existing = policy === 'fresh' ? undefined : this.#listExisting(root, new Uint8Array(0));
    const target = new TargetDirectory(
      files,
      root,
      { key: new Uint8Array(0), entry: undefined, ownersAsUsual: true, existing },
      this.#directories,
      () => undefined,
    );
    const stack = new DirectoryStack(
      {
        key: new Uint8Array(0),
        name: new Uint8Array(0),
        entry: undefined,
        selected: this.#options.only.none,
        first: false,
        directory: target,
        blocked: false,
      },
      (frame) => this.#leave(frame),
    );
    try {
      if (ranges === undefined) await this.#walk(stack, {});
      for (const { prefix, range } of ranges ?? []) {
        if (await this.#enterAncestors(stack, prefix)) await this.#walk(stack, range);
      }
      stack.leaveAll();
      this.#passNames(stack.top, undefined);
      await this.#settle();
      await this.#links.finish();
      await this.#settle();
      await planner.drain();
      await this.#finishReady();
    } catch (error) {
      stack.abandon();
      throw error;
    }
  }

  /** After a failure, and when the planner is closed: closes everything without giving it metadata. Never rejects. */
  async close(): Promise<void> {
    await this.#links.close();
    for (const directory of this.#ready.splice(0)) directory.close();
  }

  async #walk(stack: DirectoryStack, range: KeyRange): Promise<void> {
    const { tree, source, keys, damage, signal } = this.#options;
    for await (const { leaf, ...step } of walkTree(tree, source, keys, range)) {
      signal?.throwIfAborted();
      if (leaf === undefined) {
        // The second pass meets it again.
        if (this.#pass === 'rest' && step.lost !== undefined) damage.addSubtree(step.lost);
        continue;
      }
      if (!('from' in step)) continue;
      for (let i = step.from; i < step.to; i++) {
        const waiting = this.#entry(stack, leaf, i);
        if (waiting !== undefined) await waiting;
      }
      await this.#betweenLeaves();
    }
  }

  /** Takes the directories above a key onto the stack. False when the tree has no such directory. */
  async #enterAncestors(stack: DirectoryStack, prefix: Uint8Array): Promise<boolean> {
    const { tree, source, keys } = this.#options;
    for (let at = prefix.indexOf(0); at >= 0; at = prefix.indexOf(0, at + 1)) {
      const key = prefix.slice(0, at);
      const parent = stack.parentOf(key);
      if (parent === undefined) {
        // It is on the stack already when the key lies above its top.
        if (equalBytes(stack.top.key, key)) continue;
        return false;
      }
      if (equalBytes(stack.top.key, key)) continue;
      let item: Awaited<ReturnType<typeof getEntry>>;
      try {
        item = await getEntry(tree, key, source, keys);
      } catch (error) {
        if (isHoldfastError(error, 'E_DAMAGED')) return false;
        throw error;
      }
      if (item === undefined || item.value[0] !== typeCode.directory) return false;
      this.#pushDirectory(stack, parent, key, item);
    }
    return true;
  }

  #entry(stack: DirectoryStack, leaf: LeafNode, index: number): void | Promise<void> {
    const key = leaf.key(index);
    const parent = stack.parentOf(key);
    if (parent === undefined) {
      // Where damage took a directory's entry, what is below it has no place any more.
      if (!this.#options.damage.any) throw withoutParent(key);
      if (leaf.value(index)[0] !== typeCode.directory) this.#options.damage.addFile();
      return;
    }
    const value = leaf.value(index);
    const type = value[0];
    const { only, first } = this.#options;
    const selected = parent.selected || (!only.none && only.matches(key));
    const wantedFirst = parent.first || (!first.none && first.matches(key));
    if (type === typeCode.directory) {
      this.#passNames(parent, key, selected);
      const frame = this.#pushDirectory(stack, parent, key, leaf.item(index));
      if (selected && (this.#pass === 'rest' || wantedFirst)) {
        try {
          stack.made((made, above) => this.#make(made, above));
        } catch (error) {
          throw targetError(error, frame.key);
        }
      }
      return;
    }
    const inPass = selected && (this.#pass === 'first' ? wantedFirst : !wantedFirst || type === typeCode.hardlink);
    if (!inPass) {
      this.#passNames(parent, key, selected);
      return;
    }
    let directory: TargetDirectory | undefined;
    try {
      directory = stack.made((made, above) => this.#make(made, above));
    } catch (error) {
      throw targetError(error, key);
    }
    if (directory === undefined) {
      this.#options.kept.add(key);
      this.#options.onEntries(1, type === typeCode.file || type === typeCode.hardlink ? 1 : 0);
      return;
    }
    const found = this.#passNames(parent, key, selected);
    return this.#restore(directory, key, value, leaf.placement(index), found);
  }

  #pushDirectory(
    stack: DirectoryStack,
    parent: DirectoryFrame,
    key: Uint8Array,
    entry: { readonly value: Uint8Array; readonly placement: Uint8Array },
  ): DirectoryFrame {
    const { only, first } = this.#options;
    const frame: DirectoryFrame = {
      key,
      name: lastComponent(key),
      entry,
      selected: parent.selected || (!only.none && only.matches(key)),
      first: parent.first || (!first.none && first.matches(key)),
      directory: undefined,
      blocked: parent.blocked,
    };
    stack.push(frame);
    return frame;
  }

  // ---- one entry that is no directory

  #restore(
    directory: TargetDirectory,
    key: Uint8Array,
    value: Uint8Array,
    placement: Uint8Array,
    found: ExistingName | undefined,
  ): void | Promise<void> {
    const { kept, onEntries } = this.#options;
    const entry = decodeEntry(value, placement);
    const countsAsFile = entry.type === 'file' || entry.type === 'hardlink' ? 1 : 0;
    if (found !== undefined && this.#policy === 'keep') {
      kept.add(key);
      onEntries(1, countsAsFile);
      return;
    }
    switch (entry.type) {
      case 'file':
        return this.#file(directory, key, entry, found);
      case 'hardlink':
        return this.#hardlink(directory, key, entry.target, found);
      case 'symlink':
      case 'fifo':
        return this.#special(directory, key, entry, found);
      default:
        throw new HoldfastError('E_INTERNAL', 'directories are made by the stack');
    }
  }

  #file(
    directory: TargetDirectory,
    key: Uint8Array,
    entry: FileEntry,
    found: ExistingName | undefined,
  ): void | Promise<void> {
    const { planner, onEntries } = this.#options;
    let replace = false;
    if (found !== undefined) {
      const alike = found.type === fileType.regular && found.size === entry.size && found.sameStamp(entry);
      if (alike && this.#policy === 'resume') {
        onEntries(1, 1);
        return;
      }
      if (found.type === fileType.directory) this.#remove(directory, lastComponent(key), found.type, key);
      else replace = true;
      // A file with several names may be shared with what is none of this tree's business: it gets content of its own.
      if (alike && this.#policy === 'replace' && found.links === 1 && found.sameOwner(entry)) {
        return planner.compare(this.#planned(directory, key, entry, true));
      }
    }
    return planner.plan(this.#planned(directory, key, entry, replace));
  }

  #planned(directory: TargetDirectory, key: Uint8Array, entry: FileEntry, replace: boolean): PlannedFile {
    return { key, name: lastComponent(key), directory, entry, replace, owner: this.#needsOwner(directory, entry) };
  }

  #needsOwner(directory: TargetDirectory, meta: EntryMeta): boolean {
    const usual = this.#options.usualOwner;
    return !directory.ownersAsUsual || usual === undefined || usual.uid !== meta.uid || usual.gid !== meta.gid;
  }

  async #special(
    directory: TargetDirectory,
    key: Uint8Array,
    entry: Extract<Entry, { type: 'symlink' | 'fifo' }>,
    found: ExistingName | undefined,
  ): Promise<void> {
    const { files, onDegraded, onEntries } = this.#options;
    const xattrs = await this.#plainXattrs(key, entry);
    if (xattrs === undefined) return;
    const name = lastComponent(key);
    const at = nameAt(name);
    const parent = directory.descriptor;
    try {
      if (found !== undefined) {
        const type = entry.type === 'symlink' ? fileType.symlink : fileType.fifo;
        const alike =
          found.type === type &&
          found.sameStamp(entry) &&
          (this.#policy === 'resume' || (found.sameOwner(entry) && xattrs.length === 0)) &&
          (entry.type === 'fifo' || isLinkTo(files, parent, name, entry.target));
        if (alike) {
          onEntries(1, 0);
          return;
        }
        this.#remove(directory, name, found.type, key);
      }
      if (entry.type === 'symlink') files.makeSymlink(parent, at, entry.target);
      else files.makeFifo(parent, at);
      applyToName(files, parent, at, entry, xattrs, entry.type, (part, errno) => onDegraded(key, part, errno));
      onEntries(1, 0);
    } catch (error) {
      throw targetError(error, key);
    }
  }

  // ---- further names of files

  #hardlink(
    directory: TargetDirectory,
    key: Uint8Array,
    target: Uint8Array,
    found: ExistingName | undefined,
  ): void | Promise<void> {
    if (compareBytes(target, key) >= 0) {
      throw new HoldfastError('E_HOSTILE', 'a hardlink whose target does not come before it', {
        details: { path: shown(key) },
      });
    }
    const { only, first } = this.#options;
    if (found?.type === fileType.directory) this.#remove(directory, lastComponent(key), found.type, key);
    const replace = found !== undefined && found.type !== fileType.directory;
    // The first name of the group belongs to another part: this one gets the content, or is linked to one that got it.
    const elsewhere =
      (!only.none && !only.matchesAtOrBelow(target)) || (this.#pass === 'first' && !first.matchesAtOrBelow(target));
    if (elsewhere) {
      const group = `${this.#pass}/${pathText(target)}`;
      const standIn = this.#standIns.get(group);
      if (standIn === undefined) {
        if (this.#standIns.size < standInsMax) this.#standIns.set(group, key.slice());
        return this.#ownContent(key, target, directory, replace);
      }
      return this.#links.add({ key: key.slice(), target: standIn, directory, replace, check: undefined });
    }
    // Where everything in the target was made by this restore, whatever regular file stands there is the tree's.
    const check = this.#policy !== 'fresh';
    if (!check)
      return this.#links.add({ key: key.slice(), target: target.slice(), directory, replace, check: undefined });
    return this.#linkChecked(directory, key, target, replace);
  }

  async #linkChecked(directory: TargetDirectory, key: Uint8Array, target: Uint8Array, replace: boolean): Promise<void> {
    const first = await this.#fileAt(target, key);
    if (first === undefined) return;
    await this.#links.add({
      key: key.slice(),
      target: target.slice(),
      directory,
      replace,
      check: this.#policy === 'keep' ? first : undefined,
    });
  }

  /** Restores a further name as a file of its own. */
  async #ownContent(key: Uint8Array, target: Uint8Array, directory: TargetDirectory, replace: boolean): Promise<void> {
    const entry = await this.#fileAt(target, key);
    if (entry === undefined) return;
    const waiting = this.#options.planner.plan(this.#planned(directory, key, entry, replace));
    if (waiting !== undefined) await waiting;
  }

  /** The file that a further name stands for. Undefined when damage hides it; E_HOSTILE when it is no file. */
  async #fileAt(target: Uint8Array, key: Uint8Array): Promise<FileEntry | undefined> {
    const { tree, source, keys, damage } = this.#options;
    let item: Awaited<ReturnType<typeof getEntry>>;
    try {
      item = await getEntry(tree, target, source, keys);
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      damage.addFile();
      return undefined;
    }
    const entry = item === undefined ? undefined : decodeEntry(item.value, item.placement);
    if (entry?.type === 'file') return entry;
    throw new HoldfastError('E_HOSTILE', 'a hardlink to what is no file of the tree', {
      details: { path: shown(key) },
    });
  }

  #onMissingTarget(key: Uint8Array, target: Uint8Array): void {
    if (this.#options.damage.any) {
      this.#options.damage.addFile();
      return;
    }
    throw new HoldfastError('E_HOSTILE', 'a hardlink to what is no file of the tree', {
      details: { path: shown(key), target: shown(target) },
    });
  }

  // ---- directories

  /** Makes the directory of a frame, or meets the one that stands there. */
  #make(frame: DirectoryFrame, parent: TargetDirectory): void {
    const { files, kept } = this.#options;
    const name = nameAt(frame.name);
    let made = true;
    try {
      files.makeDirectory(parent.descriptor, name);
    } catch (error) {
      if (!(error instanceof FileTreeError) || error.errno !== 'EEXIST' || this.#policy === 'fresh') throw error;
      made = false;
    }
    if (!made && !this.#isDirectory(parent, frame)) {
      if (this.#policy === 'keep') {
        kept.add(frame.key);
        frame.blocked = true;
        return;
      }
      this.#removeWhatever(parent, frame.name, frame.key);
      files.makeDirectory(parent.descriptor, name);
      made = true;
    }
    const descriptor = this.#openDirectory(parent.descriptor, frame, made);
    const ours = made || this.#policy !== 'keep' || this.#madeFirst.has(pathText(frame.key));
    if (made && this.#pass === 'first') this.#madeFirst.add(pathText(frame.key));
    frame.directory = new TargetDirectory(
      files,
      descriptor,
      {
        key: frame.key,
        entry: ours ? frame.entry : undefined,
        ownersAsUsual: made && parent.ownersAsUsual,
        existing: made ? undefined : this.#listExisting(descriptor, frame.key),
      },
      this.#directories,
      (directory) => this.#ready.push(directory),
    );
    this.#options.onEntries(this.#pass === 'first' ? 0 : 1, 0);
  }

  #openDirectory(parent: Descriptor, frame: DirectoryFrame, made: boolean): Descriptor {
    const { files } = this.#options;
    const name = nameAt(frame.name);
    if (made || this.#policy === 'keep') return files.openBeneath(parent, name);
    // It gets its mode back at the end; until then we must be able to write into it.
    let descriptor: Descriptor;
    try {
      descriptor = files.openBeneath(parent, name);
    } catch (error) {
      if (!(error instanceof FileTreeError) || error.errno !== 'EACCES') throw error;
      files.setModeOfName(parent, name, 0o700);
      return files.openBeneath(parent, name);
    }
    const { mode } = files.stat(descriptor);
    if ((mode & 0o700) === 0o700) return descriptor;
    try {
      files.setMode(descriptor, (mode & 0o7777) | 0o700);
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
    }
    return descriptor;
  }

  #isDirectory(parent: TargetDirectory, frame: DirectoryFrame): boolean {
    const { files } = this.#options;
    const stat = new Uint8Array(64);
    files.statNameInto(parent.descriptor, nameAt(frame.name), stat, 0);
    return (((stat[1] as number) << 8) & 0o170000) === fileType.directory;
  }

  /** The names of a directory that was there before. Leftovers of an earlier run go at once, before anything is made. */
  #listExisting(directory: Descriptor, key: Uint8Array): ExistingNames {
    const { files, tempPrefix } = this.#options;
    let names: ExistingNames;
    try {
      names = new ExistingNames(files.list(directory));
      let leftovers = 0;
      for (let i = 0; i < names.count; i++) {
        const name = names.name(i);
        if (!equalBytes(name.subarray(0, tempPrefix.length), tempPrefix)) continue;
        files.removeFile(directory, nameAt(name));
        leftovers++;
      }
      if (leftovers > 0) names = new ExistingNames(files.list(directory));
    } catch (error) {
      throw targetError(error, key);
    }
    return names;
  }

  /**
   * Moves on in the listing of an existing directory up to the key's name (to its end without a key). What the tree does not
   * have goes when the target is to become equal.
   */
  #passNames(frame: DirectoryFrame, key: Uint8Array | undefined, selected = false): ExistingName | undefined {
    const directory = frame.directory;
    const existing = directory?.existing;
    if (directory === undefined || existing === undefined) return undefined;
    const onPassed = (name: Uint8Array, type: number): void => this.#passed(frame, directory, name, type);
    if (key === undefined) {
      existing.finish(onPassed);
      return undefined;
    }
    const found = existing.find(lastComponent(key), onPassed);
    return selected || found === undefined ? found : undefined;
  }

  #passed(frame: DirectoryFrame, directory: TargetDirectory, name: Uint8Array, type: number): void {
    if (this.#policy !== 'replace' || this.#pass === 'first' || !frame.selected) return;
    if (frame.key.length === 0 && type === fileType.directory && equalBytes(name, lostAndFound)) return;
    const key = joined(frame.key, name);
    // Of a part of the tree that cannot be read nobody knows which names belong there.
    for (const { lower, upper } of this.#options.damage.lost) {
      if (compareBytes(key, lower) >= 0 && (upper === undefined || compareBytes(key, upper) < 0)) return;
    }
    this.#remove(directory, name, type, key);
    this.#options.removed.add(key);
  }

  #remove(directory: TargetDirectory, name: Uint8Array, type: number, key: Uint8Array): void {
    try {
      removeName(this.#options.files, directory.descriptor, name, type);
    } catch (error) {
      throw targetError(error, key);
    }
  }

  #removeWhatever(directory: TargetDirectory, name: Uint8Array, key: Uint8Array): void {
    this.#remove(directory, name, fileType.regular, key);
  }

  #leave(frame: DirectoryFrame): void {
    const directory = frame.directory;
    if (directory === undefined) return;
    try {
      this.#passNames(frame, undefined);
    } finally {
      directory.release();
    }
    // The walk may leave many at once, and each is open until it has its metadata.
    this.#finishSimple();
  }

  // ---- waiting

  async #betweenLeaves(): Promise<void> {
    if (this.#ready.length > 0) await this.#finishReady();
    const { planner } = this.#options;
    await this.#replanDiffering();
    if (this.#directories.open <= openDirectoriesMax) return;
    await planner.flush();
    await this.#links.flush();
    while (this.#directories.open > openDirectoriesMax / 2 && !planner.idle) {
      await planner.step();
      await this.#finishReady();
    }
    await this.#links.settle();
    await this.#finishReady();
  }

  /** Everything planned so far is done. */
  async #settle(): Promise<void> {
    const { planner } = this.#options;
    do {
      await planner.drain();
      await this.#finishReady();
    } while (await this.#replanDiffering());
    await planner.drain();
  }

  async #replanDiffering(): Promise<boolean> {
    const { planner } = this.#options;
    const differing = planner.takeDiffering();
    for (const file of differing) {
      try {
        const waiting = planner.plan(file);
        if (waiting !== undefined) await waiting;
      } finally {
        file.directory.release();
      }
    }
    return differing.length > 0;
  }

  /** Gives metadata to the directories that are complete. */
  async #finishReady(): Promise<void> {
    for (;;) {
      this.#finishSimple();
      const directory = this.#ready.pop();
      if (directory === undefined) return;
      try {
        const entry = this.#entryOf(directory);
        const xattrs = await this.#plainXattrs(directory.key, entry);
        if (xattrs !== undefined) this.#finish(directory, entry, xattrs);
      } finally {
        directory.close();
      }
    }
  }

  /** The same at once, for all but those with large xattrs. */
  #finishSimple(): void {
    const later: TargetDirectory[] = [];
    for (;;) {
      const directory = this.#ready.pop();
      if (directory === undefined) break;
      if (this.#pass === 'first' || directory.entry === undefined) {
        directory.close();
        continue;
      }
      const entry = this.#entryOf(directory);
      if (entry.xattrs.some(({ value }) => value.kind === 'chunk')) {
        later.push(directory);
        continue;
      }
      const xattrs = entry.xattrs.map(({ name, value }): PlainXattr => {
        return { name, value: value.kind === 'inline' ? value.bytes : emptyBytes };
      });
      try {
        this.#finish(directory, entry, xattrs);
      } finally {
        directory.close();
      }
    }
    this.#ready = later;
  }

  #entryOf(directory: TargetDirectory): EntryMeta {
    const stored = directory.entry;
    invariant(stored !== undefined, 'a directory that gets metadata has an entry');
    const entry = decodeEntry(stored.value, stored.placement);
    invariant(entry.type === 'directory', 'a directory has the entry of one');
    return entry;
  }

  #finish(directory: TargetDirectory, entry: EntryMeta, xattrs: readonly PlainXattr[]): void {
    const { files, onDegraded } = this.#options;
    const { key, descriptor } = directory;
    try {
      if (directory.existing !== undefined) removeOtherXattrs(files, descriptor, xattrs);
      const owner = this.#needsOwner(directory, entry);
      applyToDescriptor(files, descriptor, entry, xattrs, owner, (part, errno) => onDegraded(key, part, errno));
    } catch (error) {
      throw targetError(error, key);
    }
  }

  /** Values of xattrs, large ones read and proven; undefined when damage hides one, which costs the entry. */
  async #plainXattrs(key: Uint8Array, meta: EntryMeta): Promise<readonly PlainXattr[] | undefined> {
    if (meta.xattrs.length === 0) return noXattrs;
    const { source, keys, damage } = this.#options;
    try {
      return await plainXattrs(meta, source, keys);
    } catch (error) {
      if (!isHoldfastError(error, 'E_DAMAGED')) throw error;
      damage.add(
        { key: String(error.details['key'] ?? ''), pack: undefined, segment: undefined, why: error.message },
        key,
      );
      return undefined;
    }
  }
}

const standInsMax = 100_000;
const noXattrs: readonly PlainXattr[] = [];

/** Values of an entry's xattrs; large ones are read and proven. E_DAMAGED, E_STORE_*. */
export async function plainXattrs(
  meta: EntryMeta,
  source: SegmentSource,
  keys: DomainKeys,
): Promise<readonly PlainXattr[]> {
  const xattrs: PlainXattr[] = [];
  for (const { name, value } of meta.xattrs) {
    if (value.kind === 'inline') {
      xattrs.push({ name, value: value.bytes });
      continue;
    }
    const bytes = await source.load(value.place, value.bytes);
    if (!equalBytes(contentId(keys, bytes, 0, bytes.length), value.id)) {
      throw new HoldfastError('E_DAMAGED', 'an xattr does not match its id');
    }
    xattrs.push({ name, value: bytes });
  }
  return xattrs;
}

function removeOtherXattrs(files: FileTreeWriter, descriptor: Descriptor, wanted: readonly PlainXattr[]): void {
  for (const { name } of keptXattrs(files.xattrs(descriptor))) {
    if (wanted.some((xattr) => equalBytes(xattr.name, name))) continue;
    try {
      files.removeXattr(descriptor, name);
    } catch (error) {
      if (!(error instanceof FileTreeError)) throw error;
    }
  }
}

function shown(key: Uint8Array): string {
  return displayPath(key.subarray(0, 1000));
}

function joined(parent: Uint8Array, name: Uint8Array): Uint8Array {
  const key = new Uint8Array(parent.length + (parent.length === 0 ? 0 : 1) + name.length);
  key.set(parent);
  key.set(name, key.length - name.length);
  return key;
}
