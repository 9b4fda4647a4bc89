/** Watches a file system in memory, as promptly as a kernel does. */
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { type ChangeCount, ChangeLog, type Changes, type UnknownReason } from '../../src/engine/model/changes.ts';
import type { ChangeSource, TreeSize } from '../../src/engine/ports/change-source.ts';
import type { MemoryFileSystem, MemoryPath } from './memory-file-tree.ts';

export class MemoryChangeSource implements ChangeSource {
  readonly kind = 'inotify';
  readonly why = undefined;
  readonly prompt: boolean;
  /** Names whose events are swallowed. */
  readonly deaf: Set<string> = new Set();
  /** How often all was put back. */
  returned = 0;
  size: TreeSize | undefined;
  readonly #log = new ChangeLog({ everything: 'started' });
  readonly #disk: MemoryFileSystem;

  constructor(disk: MemoryFileSystem, { prompt = true }: { readonly prompt?: boolean } = {}) {
    this.prompt = prompt;
    this.#disk = disk;
    disk.listeners.add(this.#hear);
  }

  readonly #hear = (path: MemoryPath, whole: boolean): void => {
    const bytes = typeof path === 'string' ? utf8Bytes(path) : path;
    if (this.deaf.has(new TextDecoder().decode(bytes))) return;
    this.#log.add(
      bytes.map((byte) => (byte === 0x2f ? 0 : byte)),
      whole,
    );
  };

  fail(reason: UnknownReason): void {
    this.#log.everything(reason);
  }

  async count(): Promise<ChangeCount> {
    return this.#log.count();
  }

  async take(): Promise<Changes> {
    return this.#log.take();
  }

  putBack(changes: Changes): void {
    this.returned++;
    this.#log.putBack(changes);
  }

  scanned(size: TreeSize): void {
    this.size = size;
  }

  async close(): Promise<void> {
    this.end();
  }

  /** With its process. */
  end(): void {
    this.#disk.listeners.delete(this.#hear);
    this.#log.everything('lost');
  }
}
