import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Contender, ContenderName, Place } from './contenders.ts';
import { type DataSet, ensureDataSet } from './data-sets.ts';
import { applyEdits, revertEdits } from './edits.ts';
import { type Command, CommandFailed, runMeasured } from './measure.ts';
import { writesOf } from './request-kind.ts';
import type { Figures, Network, Sample } from './rows.ts';
import type { S3Site } from './s3-site.ts';
import type { Phase, Settings } from './settings.ts';
import { differences, freeBytes, readWholeTree, type TreeSize, treeSize } from './trees.ts';

/**
 * Runs the programs on the data sets and measures them.
 *
 * What keeps the figures honest:
 * - everything that a run reads is read right before it, and all dirty pages are written: the page cache is reclaimed
 *   within seconds on a busy machine;
 * - restores go into fresh directories, and nothing is deleted until the end: creating files after deleting many is 2 to 10
 *   times slower for minutes;
 * - every first save goes into a fresh repository, and the order of the contenders turns round with each round;
 * - what Holdfast restored is compared with the source, file by file, outside the timed part.
 */

/** Stays free while repositories and restored trees pile up. */
const freeBytesMin = 6e9;
/** A small file takes a block and an inode whatever its length. */
const bytesPerFile = 4500;
/** How long creating files stays slow after a mass deletion. */
const settleMs = 5 * 60_000;
const quickScale = 0.01;
/** Of set (a) a database and some packages: 25 of 2,100 MB, 470 of 39,000 files. */
const firstGlobs = ['db/store-3.sqlite', 'node_modules/ba*'];

/** One run of the benchmark: its directory, its samples, its contenders. */
export class Bench {
  readonly samples: Sample[] = [];
  readonly #settings: Settings;
  readonly #contenders: readonly Contender[];
  readonly #directory: string;
  readonly #site: S3Site | undefined;
  readonly #signal: AbortSignal;
  /** Restored trees, oldest first; they go at the end, or when the disk runs short. */
  #restored: string[] = [];

  constructor(
    settings: Settings,
    {
      contenders,
      directory,
      site,
      signal,
    }: { contenders: readonly Contender[]; directory: string; site: S3Site | undefined; signal: AbortSignal },
  ) {
    this.#settings = settings;
    this.#contenders = contenders;
    this.#directory = directory;
    this.#site = site;
    this.#signal = signal;
  }

  dataSet(name: DataSet['name']): DataSet {
    const { cacheDir, seed, quick } = this.#settings;
    const set = ensureDataSet(name, { cacheDir, seed, scale: quick ? quickScale : 1, say });
    revertEdits(set);
    return set;
  }

  /** First saves, saves after edits, restores of one set, round by round and, on a server, over each network. */
  async measureSet(set: DataSet): Promise<void> {
    const networks: readonly (Network | undefined)[] = this.#site === undefined ? [undefined] : ['direct', 'delayed'];
    for (let round = 0; round < this.#rounds(set); round += 1) {
      for (const network of networks) await this.#measureRound(set, round, network);
    }
  }

  async #measureRound(set: DataSet, round: number, network: Network | undefined): Promise<void> {
    const { phases } = this.#settings;
    const wants = (phase: Phase): boolean => phases.includes(phase);
    const order = this.#order(round);
    const places = new Map(order.map((contender) => [contender, this.#place(set, round, contender, network)]));
    const good = new Set<Contender>();
    for (const [contender, place] of places) {
      const level3 = contender.name === 'holdfast-level-3';
      if (level3 && !wants('level3')) continue;
      contender.init(place);
      const phase = level3 ? 'level3' : 'first';
      const saved = await this.#save(set, { phase, round, network }, contender, place, wants(phase));
      if (saved && !level3) good.add(contender);
    }
    try {
      if (wants('incremental')) {
        applyEdits(set, round);
        for (const [contender, place] of places) {
          if (!contender.incremental || !good.has(contender)) continue;
          const saved = await this.#save(set, { phase: 'incremental', round, network }, contender, place, true);
          if (!saved) good.delete(contender);
        }
      }
      if (wants('restore')) {
        for (const [contender, place] of places) {
          if (good.has(contender) && !this.#skipsRestore(set, contender)) {
            await this.#restore(set, { round, network }, contender, place);
          }
        }
      }
      if (wants('restoreFirst') && set.name === 'a') {
        for (const [contender, place] of places) {
          if (good.has(contender) && contender.restoreFirst !== undefined) {
            await this.#restore(set, { round, network }, contender, place, contender.restoreFirst);
          }
        }
      }
    } finally {
      revertEdits(set);
    }
  }

  /** Bytes that the edits of a database cost. */
  async measureDatabase(set: DataSet): Promise<void> {
    for (let round = 0; round < this.#settings.rounds; round += 1) {
      const places = new Map(
        this.#order(round)
          .filter(({ name, incremental }) => incremental && name !== 'holdfast-level-3')
          .map((contender) => [contender, this.#place(set, round, contender)]),
      );
      try {
        for (const [contender, place] of places) {
          contender.init(place);
          if (!(await this.#save(set, { phase: 'first', round }, contender, place, false))) places.delete(contender);
        }
        applyEdits(set, round);
        for (const [contender, place] of places)
          await this.#save(set, { phase: 'sqlite', round }, contender, place, true);
      } finally {
        revertEdits(set);
      }
    }
  }

  /** Two pairs are enough for the million files unless more were asked for: each costs 10 GB and many minutes. */
  #rounds({ name }: DataSet): number {
    const { rounds, roundsGiven } = this.#settings;
    return name === 'c' && !roundsGiven ? Math.min(rounds, 2) : rounds;
  }

  /** A million files more, for a figure that nothing is judged by, are not worth their time and disk. */
  #skipsRestore(set: DataSet, { name }: Contender): boolean {
    return set.name === 'c' && !isJudged(name);
  }

  /** Holdfast and restic stand side by side and swap places every round; the rest follows, in its few rounds. */
  #order(round: number): Contender[] {
    const taking = this.#contenders.filter(({ name }) => isJudged(name) || round < this.#settings.referenceRounds);
    return round % 2 === 0 ? taking : taking.reverse();
  }

  #place(set: DataSet, round: number, { name }: Contender, network?: Network): Place {
    const own = [set.name, round, name, ...(network === undefined ? [] : [network])].join('-');
    const base = join(this.#directory, own);
    mkdirSync(base, { recursive: true });
    if (this.#site === undefined || network === undefined) return { base };
    return { base, bucket: this.#site.bucket(own, network) };
  }

  /** @returns whether it went well; what went wrong is said, and kept as a sample when the phase is judged */
  async #save(
    set: DataSet,
    { phase, round, network }: Turn & { phase: Phase },
    contender: Contender,
    place: Place,
    keep: boolean,
  ): Promise<boolean> {
    const repository = contender.repository(place);
    const before = treeSize(repository).bytes;
    this.#warm(set.path, ...(phase === 'first' || phase === 'level3' ? [] : [repository]));
    const key = keyOf(set, { phase, round, network }, contender);
    const outcome = await this.#run(contender.save(place, set.path), place, key);
    if ('failed' in outcome) {
      this.samples.push({ ...key, failed: outcome.failed });
      return false;
    }
    const storedBytes = treeSize(repository).bytes;
    const figures: Figures = { ...outcome, storedBytes, newBytes: storedBytes - before };
    if (keep) this.samples.push({ ...key, figures });
    say(describe(key, figures));
    return true;
  }

  /** @param first brings the files of `firstGlobs` back before the rest */
  async #restore(
    set: DataSet,
    { round, network }: Turn,
    contender: Contender,
    place: Place,
    first?: Contender['restoreFirst'],
  ): Promise<void> {
    await this.#makeRoom(set.bytes + set.files * bytesPerFile);
    const phase = first === undefined ? 'restore' : 'restoreFirst';
    const target = join(place.base, first === undefined ? 'restored' : 'restored-first');
    this.#restored.push(target);
    this.#warm(contender.repository(place));
    const key = keyOf(set, { phase, round, network }, contender);
    const command = first?.command(place, target, firstGlobs) ?? contender.restore(place, target);
    const outcome = await this.#run(command, place, key);
    if ('failed' in outcome) {
      this.samples.push({ ...key, failed: outcome.failed });
      return;
    }
    say(describe(key, outcome));
    const output = (): string => readFileSync(outputOf(place, key), 'utf8');
    const figures =
      first === undefined ? outcome : { ...outcome, firstShare: first.share(output(), outcome.wallSeconds) };
    const wrong =
      contender.name === 'holdfast'
        ? differences(set.path, target)
        : countsDiffer(
            // Without a second save, the tree comes back as it was before the edits.
            contender.incremental ? treeSize(set.path) : set,
            treeSize(target),
          );
    if (wrong.length === 0) this.samples.push({ ...key, figures });
    else this.samples.push({ ...key, failed: `the restored tree differs: ${wrong.join('; ')}` });
  }

  async #run(command: Command, place: Place, key: Omit<Sample, 'figures'>): Promise<Figures | { failed: string }> {
    try {
      const outputPath = outputOf(place, key);
      await this.#site?.takeCounts();
      const serverBefore = this.#site?.cpuSeconds() ?? 0;
      const measured = await runMeasured(command, { outputPath, signal: this.#signal });
      if (this.#site === undefined) return measured;
      // The server belongs to the measurement: only what works beside it spoils the figures.
      const otherCpuSeconds = Math.max(0, measured.otherCpuSeconds - (this.#site.cpuSeconds() - serverBefore));
      const figures = { ...measured, otherCpuSeconds };
      if (key.network !== 'delayed') return figures;
      const requests = await this.#site.takeCounts();
      return { ...figures, requests, writeRequests: writesOf(requests) };
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      say(`*** FAILED: ${key.contender}, ${key.phase} (${key.set}): ${error.message}`);
      return { failed: error.message.split('\n').slice(0, 3).join(' ') };
    }
  }

  #warm(...paths: string[]): void {
    this.#signal.throwIfAborted();
    execFileSync('sync');
    for (const path of paths) readWholeTree(path);
  }

  /** Nothing is deleted between timed runs, unless the disk would fill; then the file system gets time to settle. */
  async #makeRoom(bytes: number): Promise<void> {
    if (freeBytes(this.#directory) > bytes + freeBytesMin) return;
    const doomed = this.#restored;
    this.#restored = [];
    say(`*** the disk runs short: deleting ${doomed.length} restored trees, then waiting ${settleMs / 1000} s`);
    removeTrees(doomed);
    execFileSync('sync');
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, settleMs);
      this.#signal.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(this.#signal.reason);
      });
    });
    if (freeBytes(this.#directory) < bytes) throw new Error(`too little room for ${(bytes / 1e9).toFixed(1)} GB`);
  }
}

function outputOf(place: Place, { phase }: Pick<Sample, 'phase'>): string {
  return join(place.base, `${phase}.output`);
}

/** One round over one network; none where the repository is a directory. */
interface Turn {
  readonly round: number;
  readonly network?: Network | undefined;
}

function keyOf(
  { name }: DataSet,
  { phase, round, network }: Turn & { readonly phase: Phase },
  contender: Contender,
): Omit<Sample, 'figures'> {
  return { set: name, ...(network === undefined ? {} : { network }), phase, round, contender: contender.name };
}

/** Rows are ratios of Holdfast to restic; the other programs stand beside them. */
function isJudged(name: ContenderName): boolean {
  return name.startsWith('holdfast') || name === 'restic';
}

/** A peer's restore need not keep all that Holdfast keeps; but all files must be there with all their bytes. */
function countsDiffer(wanted: TreeSize, got: TreeSize): string[] {
  if (wanted.files === got.files && wanted.bytes === got.bytes) return [];
  return [`${got.files} files, ${got.bytes} bytes instead of ${wanted.files} files, ${wanted.bytes} bytes`];
}

function describe({ set, network, phase, round, contender }: Omit<Sample, 'figures'>, figures: Figures): string {
  const { wallSeconds, cpuSeconds, peakBytes, storedBytes, newBytes } = figures;
  const stored =
    storedBytes === undefined ? '' : `, stored ${(storedBytes / 1e6).toFixed(1)} MB, new ${newBytes} bytes`;
  const cost = `${wallSeconds.toFixed(2)} s wall, ${cpuSeconds.toFixed(2)} s CPU, ${(peakBytes / 2 ** 20).toFixed(0)} MiB`;
  const over = network === undefined ? '' : `${network} `;
  const asked = figures.requests === undefined ? '' : `, requests ${JSON.stringify(figures.requests)}`;
  return `${over}${set} ${phase} round ${round + 1} ${contender}: ${cost}${stored}${asked}`;
}

export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Deletes what runs left. Millions of files can take many minutes on a cold disk: said, so that nobody takes it for a hang. */
export function removeTrees(paths: readonly string[]): void {
  say(`deleting ${paths.length === 1 ? paths[0] : `${paths.length} trees`} …`);
  execFileSync('rm', ['-rf', '--', ...paths]);
}
