/**
 * Watches a small volume by chokidar, which rests on what Node itself offers. It watches directories only and hears of their names by
 * Node's raw events. Bursts are lost there without a word, so many events at once are taken for everything.
 */
import { join, relative } from 'node:path';
import type { FSWatcher } from 'chokidar';
import { utf8Bytes } from '../../engine/model/bytes.ts';
import { type ChangeCount, ChangeLog, type Changes } from '../../engine/model/changes.ts';
import type { ChangeSource } from '../../engine/ports/change-source.ts';

/** Between two takings. 34,000 of 200,000 were lost in a burst; of a thousand none was ever seen to be. */
const eventsMax = 1000;
/** What a name has that Node could not decode. */
const undecoded = '\ufffd';

export class ChokidarSource implements ChangeSource {
  readonly kind = 'chokidar';
  readonly prompt = false;
  #why: string | undefined;
  readonly #root: string;
  readonly #watcher: FSWatcher;
  readonly #log: ChangeLog = new ChangeLog({ everything: 'started' });
  #events = 0;
  #closed = false;

  private constructor(root: string, watcher: FSWatcher) {
    this.#root = root;
    this.#watcher = watcher;
    watcher.on('raw', (event, name, details) => {
      const directory = (details as { watchedPath?: string } | undefined)?.watchedPath;
      if (directory === undefined || typeof name !== 'string' || name === '') this.#lose('an event without a name');
      // A rename is how a directory comes, with all that is below it.
      else this.#hear(join(directory, name), event === 'rename');
    });
    watcher.on('all', (event, path) => this.#hear(path, event === 'addDir'));
    watcher.on('error', (error) => this.#lose(String(error)));
  }

  /** Resolves when all directories are watched. */
  static async start(root: string): Promise<ChokidarSource> {
    const { watch } = await import('chokidar');
    const watcher = watch(root, {
      ignoreInitial: true,
      followSymlinks: false,
      ignorePermissionErrors: true,
      atomic: false,
      ignored: (_path, stats) => stats !== undefined && !stats.isDirectory(),
    });
    const source = new ChokidarSource(root, watcher);
    await new Promise<void>((resolve) => watcher.once('ready', () => resolve()));
    return source;
  }

  get why(): string | undefined {
    return this.#why;
  }

  async count(): Promise<ChangeCount> {
    return this.#closed ? { kind: 'everything', reason: 'lost' } : this.#log.count();
  }

  async take(): Promise<Changes> {
    this.#events = 0;
    return this.#closed ? { kind: 'everything', reason: 'lost' } : this.#log.take();
  }

  putBack(changes: Changes): void {
    this.#log.putBack(changes);
  }

  scanned(): void {}

  async close(): Promise<void> {
    this.#closed = true;
    await this.#watcher.close();
  }

  #hear(path: string, whole: boolean): void {
    this.#events++;
    const name = relative(this.#root, path);
    if (this.#events > eventsMax) this.#log.everything('burst');
    else if (name.includes(undecoded)) this.#log.everything('lost');
    else if (name !== '' && !name.startsWith('..')) this.#log.add(utf8Bytes(name.replaceAll('/', '\0')), whole);
  }

  #lose(why: string): void {
    this.#why = why;
    this.#log.everything('lost');
  }
}
