/**
 * Kills of real processes in a world, and what must hold after each without any repair: the repository lists and verifies, the newest
 * acknowledged checkpoint is there and restores, and the next checkpoint succeeds.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { JsonObject, Ran } from '../cli/run-cli.ts';
import type { Acknowledged, KilledRun, World } from './world.ts';

/** How many kills there are on each kind of store, of all that `KILLS` asks for; `npm run nightly` asks for more. */
export const killsWanted: { readonly directory: number; readonly s3: number } = split(
  Number(process.env['KILLS'] ?? 200),
);

function split(kills: number): { readonly directory: number; readonly s3: number } {
  const s3 = Math.round(kills / 4);
  return { directory: kills - s3, s3 };
}

export interface Tally {
  kills: number;
  readonly byKind: Record<string, number>;
  /** Kills that left a half-written object or an unfinished upload in the store. */
  leftovers: number;
  /** Checkpoints and restores that are complete although their process could not say so any more. */
  untold: number;
  /** Captures that went on from a PARTIAL. */
  resumedCaptures: number;
  /** Targets in which a killed restore had done something, but not all. */
  halfRestores: number;
  fullRestores: number;
}

/** Nothing yet. */
export function newTally(): Tally {
  return { kills: 0, byKind: {}, leftovers: 0, untold: 0, resumedCaptures: 0, halfRestores: 0, fullRestores: 0 };
}

/** Kills the processes of one world, and looks after each time. */
export class Killer {
  readonly #world: World;
  readonly #tally: Tally;
  readonly #name: string;
  #captures = 0;
  #restores = 0;

  constructor(world: World, tally: Tally, name: string) {
    this.#world = world;
    this.#tally = tally;
    this.#name = name;
  }

  async #killed(
    kind: string,
    args: readonly string[],
    lineage: string,
    once?: () => boolean,
    env: Readonly<Record<string, string>> = {},
  ): Promise<KilledRun> {
    const run = await this.#world.killed(kind, args, { HOLDFAST_LINEAGE: lineage, ...env }, once);
    if (run.killed) {
      this.#tally.kills++;
      this.#tally.byKind[kind] = (this.#tally.byKind[kind] ?? 0) + 1;
      if ((await this.#world.leftovers()) > 0) this.#tally.leftovers++;
    }
    return run;
  }

  /** A complete checkpoint while nothing moves, and all that the directory held then. */
  async #acknowledge(kind: string, lineage: string, args: readonly string[]): Promise<[Acknowledged, JsonObject]> {
    const world = this.#world;
    await world.standStill();
    const json = await world.measured(kind, ['checkpoint', world.source, ...args], { HOLDFAST_LINEAGE: lineage });
    const lines = world.snapshot();
    world.goOn();
    expect(json, 'a checkpoint of a directory that stands still').toMatchObject({
      consistency: 'converged',
      incomplete: false,
    });
    // Whatever was killed before: the store holds no more than what records name.
    if (world.tidiedByNext) expect(await world.leftovers(lineage), 'unfinished uploads after the next run').toBe(0);
    const { slot, id, root } = json as { slot: number; id: string; root: string };
    return [{ lineage, slot, id, root, lines }, json];
  }

  /** The repository lists and verifies, and what was acknowledged is there. Answers the newest slot of the lineage. */
  async #lookAround(lineage: string, last: Acknowledged | undefined): Promise<number> {
    const world = this.#world;
    if (last === undefined) {
      const { lineages } = await world.json(['ls'], { HOLDFAST_LINEAGE: '' });
      const row = (lineages as JsonObject[]).find((each) => each['lineage'] === lineage);
      expect(row?.['error']).toBeUndefined();
      return Number(row?.['newest']?.['slot'] ?? 0);
    }
    const listed = await world.json(['ls'], { HOLDFAST_LINEAGE: lineage });
    expect(listed['void'], 'objects in the log that are no records').toBe(0);
    const found = (listed['checkpoints'] as JsonObject[]).find(({ slot }) => slot === last.slot);
    expect(found, 'the acknowledged checkpoint').toMatchObject({ id: last.id });
    await world.json(['verify'], { HOLDFAST_LINEAGE: lineage });
    return (listed['checkpoints'] as JsonObject[])[0]?.['slot'] as number;
  }

  async #restoresWhole({ lineage, slot, lines, root }: Acknowledged): Promise<void> {
    const world = this.#world;
    const target = world.place.at(`${this.#name}-whole`);
    const env = { HOLDFAST_LINEAGE: lineage };
    const restored = await world.json(['restore', '--at', String(slot), '--target', target], env);
    expect(restored['root']).toBe(root);
    expect(world.snapshot(target)).toEqual(lines);
    world.remove(target);
    this.#tally.fullRestores++;
  }

  /** A first capture in a lineage of its own, killed up to three times before it may end. */
  async firstCapture(): Promise<void> {
    const world = this.#world;
    const lineage = `kills/${this.#name}/${++this.#captures}`;
    const lanes = ['0', '2'][this.#captures % 2] as string;
    const args = ['--partial-bytes', world.partialBytes, '--lanes', lanes];
    for (let time = 0; time < 3; time++) {
      // On a fast store a PARTIAL and the CHECKPOINT after it come within a few ms.
      const once = [world.uploading, world.anchoring][time]?.call(world);
      const run = await this.#killed(`first-${lanes}`, ['checkpoint', world.source, ...args], lineage, once);
      if (!run.killed) break;
      await this.#lookAround(lineage, undefined);
    }
    const [acknowledged, json] = await this.#acknowledge('first-after', lineage, args);
    if (json['newBytes'] < json['bytes']) this.#tally.resumedCaptures++;
    await this.#lookAround(lineage, acknowledged);
    await this.#restoresWhole(acknowledged);
  }

  async increments(rounds: number, before: Acknowledged): Promise<Acknowledged> {
    const world = this.#world;
    const { lineage } = before;
    let last = before;
    for (let round = 0; round < rounds; round++) {
      world.edit();
      const lanes = world.chance.below(2) === 0 ? '0' : '2';
      const run = await this.#killed('increment', ['checkpoint', world.source, '--lanes', lanes], lineage);
      // Acknowledged is what was printed whole.
      if (!run.killed) {
        [last] = await this.#acknowledge('increment', lineage, []);
        continue;
      }
      const newest = await this.#lookAround(lineage, last);
      expect(newest, 'an acknowledged checkpoint is gone').toBeGreaterThanOrEqual(last.slot);
      if (newest > last.slot && !run.stdout.endsWith('\n')) this.#tally.untold++;
      const [next] = await this.#acknowledge('increment', lineage, ['--lanes', lanes]);
      expect(next.slot).toBeGreaterThan(newest);
      if (round % 5 === 0) {
        await this.#restoresWhole(last);
        await this.#restoresWhole(next);
      }
      last = next;
    }
    return last;
  }

  /** Killed up to three times, then run to its end by the same command. */
  async restore(from: Acknowledged): Promise<void> {
    const world = this.#world;
    const { lineage, slot, lines, root } = from;
    const target = world.place.at(`${this.#name}-target-${++this.#restores}`);
    const args = ['restore', '--at', String(slot), '--target', target];
    if (this.#restores % 3 === 0) {
      // Over something else, which must be gone in the end.
      mkdirSync(join(target, 'bulk', '0'), { recursive: true });
      writeFileSync(join(target, 'not-in-the-checkpoint'), 'x');
      args.push('--on-existing', 'replace');
    }
    const contents = contentsOf(lines);
    let ended: Ran | undefined;
    for (let time = 0; time < 3 && ended === undefined; time++) {
      // Files have begun to come, and more follow; one name may have been there before.
      const once = time === 0 ? (): boolean => filesBelow(target) > 1 : undefined;
      const run = await this.#killed('restore', args, lineage, once, once === undefined ? {} : world.slowEnv);
      if (!run.killed) {
        ended = run;
        break;
      }
      const there = existsSync(target) ? contentsOf(world.snapshot(target)) : new Map<string, string>();
      const whole = [...there].filter(([path, content]) => contents.get(path) === content).length;
      if (whole > 0 && whole < contents.size) this.#tally.halfRestores++;
      // What has a name in a new target is whole already.
      if (this.#restores % 3 !== 0) {
        const torn = [...there].filter(([path, content]) => contents.get(path) !== content);
        expect(torn, 'half a file after a kill').toEqual([]);
      }
    }
    ended ??= await world.run([...args, '--output', 'json'], { HOLDFAST_LINEAGE: lineage });
    // Killed when it was done and could only not say so any more: then it is not begun again, but it is whole.
    if (ended.code === 20 && !args.includes('replace')) this.#tally.untold++;
    else {
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect((JSON.parse(ended.stdout) as JsonObject)['root']).toBe(root);
    }
    expect(world.snapshot(target)).toEqual(lines);
    const again = await world.json(['checkpoint', target, '--dry-run'], { HOLDFAST_LINEAGE: lineage });
    expect(again['root']).toBe(root);
    world.remove(target);
    this.#tally.fullRestores++;
  }

  /** So many kills at least, and up to three times as many until there are `enough`. */
  async run(kills: number, enough: () => boolean = () => true): Promise<void> {
    const world = this.#world;
    // One of each kind that is not killed says how long it takes.
    const lineage = `kills/${this.#name}/0`;
    let [last] = await this.#acknowledge('first-0', lineage, ['--lanes', '0', '--partial-bytes', world.partialBytes]);
    const again = `kills/${this.#name}/again`;
    await this.#acknowledge('first-2', again, ['--lanes', '2', '--partial-bytes', world.partialBytes]);
    world.edit();
    [last] = await this.#acknowledge('increment', lineage, []);
    const target = world.place.at(`${this.#name}-measure`);
    await world.measured('restore', ['restore', '--target', target], { HOLDFAST_LINEAGE: lineage });
    world.remove(target);
    const before = this.#tally.kills;
    const more = (done: number): boolean => done < kills || (done < 3 * kills && !enough());
    while (more(this.#tally.kills - before)) {
      last = await this.increments(5, last);
      await this.firstCapture();
      await this.restore(last);
    }
    await world.json(['verify', '--read-data'], { HOLDFAST_LINEAGE: lineage });
  }
}

/** Regular files that have a name there by now. */
function filesBelow(directory: string): number {
  if (!existsSync(directory)) return 0;
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;
  } catch {
    // A directory went away while it was looked at: the next look is a moment later.
    return 0;
  }
}

/** Regular files of a snapshot: path → size and digest. */
function contentsOf(lines: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of lines) {
    const [, path, content] = /^(.*) 10[0-7]{4} .* (\d+ [0-9a-f]{24})$/s.exec(line) ?? [];
    if (path !== undefined && content !== undefined) found.set(path, content);
  }
  return found;
}
