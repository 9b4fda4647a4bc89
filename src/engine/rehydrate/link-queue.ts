/**
 * Further names of files. They are gathered, and made when every file planned before them is done; meanwhile the walk goes on.
 * Bounded by links and by the directories they hold open.
 */
import { equalBytes } from '../model/bytes.ts';
import { keyComponents, lastComponent, parentKey } from '../model/rel-path.ts';
import { fileType, fileTypeMask, readStat, viewOf } from '../model/stat-record.ts';
import { type Descriptor, FileTreeError, type FileTreeWriter } from '../ports/file-tree.ts';
import { nameAt } from './apply-meta.ts';
import type { FileEntry, FilePlanner } from './file-planner.ts';
import { openBelow, type TargetDirectory } from './target-directory.ts';
import { targetError } from './target-error.ts';

export interface QueuedLink {
  readonly key: Uint8Array;
  /** Key of the name it is a further name of. */
  readonly target: Uint8Array;
  readonly directory: TargetDirectory;
  /** Something stands at the name. */
  readonly replace: boolean;
  /** Link only if what stands at the target looks like this. */
  readonly check: FileEntry | undefined;
}

export interface LinkQueueOptions {
  readonly files: FileTreeWriter;
  readonly root: Descriptor;
  readonly planner: FilePlanner;
  /** Completes all that was planned; undefined where batches need only run to their end, which the walk need not wait for. */
  readonly settle: (() => Promise<void>) | undefined;
  readonly onEntries: (entries: number, files: number) => void;
  /** No regular file stands at the target. */
  readonly onMissing: (link: QueuedLink) => void;
  /** Another file than the tree's stands at the target: the name gets its content by itself. */
  readonly ownContent: (link: QueuedLink) => Promise<void>;
}

const chunkLinksMax = 4096;
const chunkDirectoriesMax = 96;
const chunksMax = 3;

export class LinkQueue {
  readonly #options: LinkQueueOptions;
  readonly #making = new Set<Promise<void>>();
  readonly #stat = new Uint8Array(64);
  #queued: QueuedLink[] = [];
  #directories = 0;
  #failed: { readonly error: unknown } | undefined;

  constructor(options: LinkQueueOptions) {
    this.#options = options;
  }

  add(link: QueuedLink): void | Promise<void> {
    const last = this.#queued[this.#queued.length - 1];
    if (last?.directory !== link.directory) this.#directories++;
    link.directory.hold();
    this.#queued.push(link);
    if (this.#queued.length >= chunkLinksMax || this.#directories >= chunkDirectoriesMax) return this.flush();
  }

  /** Sends what is queued on its way. */
  async flush(): Promise<void> {
    const { planner, settle } = this.#options;
    const chunk = this.#queued;
    this.#queued = [];
    this.#directories = 0;
    if (chunk.length === 0) return;
    try {
      if (settle === undefined) await planner.flush();
      else await settle();
    } catch (error) {
      for (const { directory } of chunk) directory.release();
      throw error;
    }
    if (settle !== undefined) {
      await this.#make(chunk);
      return;
    }
    const making = planner
      .settled()
      .then(() => this.#make(chunk))
      .catch((error: unknown) => {
        this.#failed ??= { error };
      })
      .finally(() => this.#making.delete(making));
    this.#making.add(making);
    while (this.#making.size >= chunksMax) await Promise.race(this.#making);
    this.#throwIfFailed();
  }

  /** All that was sent is made. */
  async settle(): Promise<void> {
    await Promise.all(this.#making);
    this.#throwIfFailed();
  }

  async finish(): Promise<void> {
    await this.flush();
    await this.settle();
  }

  /** Drops what is queued and waits for what is being made. Never rejects. */
  async close(): Promise<void> {
    await Promise.all(this.#making);
    for (const { directory } of this.#queued.splice(0)) directory.release();
  }

  /** Releases every link's directory, also when one fails. */
  async #make(chunk: readonly QueuedLink[]): Promise<void> {
    let opened: { readonly key: Uint8Array; readonly descriptor: Descriptor } | undefined;
    let done = 0;
    const { files, root } = this.#options;
    try {
      for (const link of chunk) {
        const key = parentKey(link.target);
        let from: Descriptor;
        if (key.length === 0) from = root;
        else if (equalBytes(key, link.directory.key)) from = link.directory.descriptor;
        else {
          if (opened === undefined || !equalBytes(opened.key, key)) {
            if (opened !== undefined) files.close(opened.descriptor);
            opened = undefined;
            const descriptor = this.#openParent(root, key);
            if (descriptor !== undefined) opened = { key, descriptor };
          }
          if (opened === undefined) {
            this.#options.onMissing(link);
            done++;
            link.directory.release();
            continue;
          }
          from = opened.descriptor;
        }
        await this.#makeOne(link, from);
        done++;
        link.directory.release();
      }
    } finally {
      if (opened !== undefined) files.close(opened.descriptor);
      for (const { directory } of chunk.slice(done)) directory.release();
    }
  }

  #openParent(root: Descriptor, key: Uint8Array): Descriptor | undefined {
    try {
      return openBelow(this.#options.files, root, keyComponents(key));
    } catch (error) {
      if (error instanceof FileTreeError && (error.errno === 'ENOENT' || error.errno === 'ENOTDIR')) return undefined;
      throw targetError(error, key);
    }
  }

  async #makeOne(link: QueuedLink, from: Descriptor): Promise<void> {
    const { files, onMissing, onEntries, ownContent, planner } = this.#options;
    const source = nameAt(lastComponent(link.target));
    const name = nameAt(lastComponent(link.key));
    const into = link.directory.descriptor;
    try {
      const there = this.#statOf(from, source);
      if (there === undefined || (there.mode & fileTypeMask) !== fileType.regular) {
        onMissing(link);
        return;
      }
      const { check } = link;
      if (
        check !== undefined &&
        (there.size !== check.size || there.mtimeSec !== check.mtimeSec || there.mtimeNsec !== check.mtimeNsec)
      ) {
        await ownContent(link);
        return;
      }
      const existing = link.replace ? this.#statOf(into, name) : undefined;
      if (existing === undefined) {
        files.makeLink(from, source, into, name);
      } else if (existing.inode !== there.inode || existing.device !== there.device) {
        const temp = planner.tempName();
        files.makeLink(from, source, into, temp);
        files.rename(into, temp, name, true);
      }
      onEntries(1, 1);
    } catch (error) {
      throw targetError(error, link.key);
    }
  }

  #statOf(directory: Descriptor, name: { readonly names: Uint8Array; readonly start: number }) {
    try {
      this.#options.files.statNameInto(directory, name, this.#stat, 0);
      return readStat(viewOf(this.#stat), 0);
    } catch (error) {
      if (error instanceof FileTreeError && error.errno === 'ENOENT') return undefined;
      throw error;
    }
  }

  #throwIfFailed(): void {
    if (this.#failed !== undefined) throw this.#failed.error;
  }
}
