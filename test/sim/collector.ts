/**
 * Expires checkpoints and deletes what only they need, by the rules of the design, beside everything else: it works from what it
 * listed, which may be long ago when it deletes. The project's own collector is not part of this.
 */
import { logKey, packKey, packPrefix, parsePackKey } from '../../src/engine/format/object-keys.ts';
import { isCommitted, type LogRecord } from '../../src/engine/format/record.ts';
import { objectsOf } from '../../src/engine/lineage/record-objects.ts';
import type { Chance } from './chance.ts';
import type { Scheduler } from './scheduler.ts';
import type { World } from './world.ts';

export async function collect(world: World, scheduler: Scheduler, chance: Chance): Promise<void> {
  const records: LogRecord[] = [];
  for await (const record of world.log.records()) records.unshift(record);
  await scheduler.wait(undefined, 'collector listed');
  const highest = records.at(-1)?.header.slot ?? 0;
  const checkpoints = records.filter(({ header }) => header.kind === 'CHECKPOINT');
  const newest = checkpoints.at(-1)?.header.slot ?? 0;
  const base = records.filter(({ header }) => header.kind === 'CLAIM').at(-1)?.header.base?.slot ?? 0;
  const decided: number[] = [];
  for (const { header } of records) {
    const { kind, slot } = header;
    if (slot >= newest || slot === base) continue;
    if (kind === 'PARTIAL' || (kind === 'CHECKPOINT' && chance.happens(0.85))) decided.push(slot);
  }
  for (const slot of decided) world.expired.add(slot);
  await scheduler.wait(undefined, 'collector decided');
  // The log is looked at again after the decision. Every claim made meanwhile may name a base that this decision expired, and so may
  // the newest one with an earlier decision, which its writer may not have seen. Both stay.
  const now: LogRecord[] = [];
  for await (const record of world.log.records()) now.unshift(record);
  const claims = now.filter(({ header }) => header.kind === 'CLAIM');
  for (const { header } of claims) {
    if (header.slot <= highest && header !== claims.at(-1)?.header) continue;
    if (header.base !== undefined) world.expired.delete(header.base.slot);
  }
  const retained = now.filter(({ header }) => !world.expired.has(header.slot));
  const needed = new Set<string>();
  for (const record of retained) {
    if (!isCommitted(record.header.kind)) continue;
    const { packs } = await world.log.packs(record);
    for (const { key } of objectsOf(record.header, packs)) needed.add(key);
  }

  const deletions: (() => Promise<string>)[] = [];
  for (const [i, { header }] of now.entries()) {
    const next = now[i + 1]?.header;
    if (header.slot > highest || !world.expired.has(header.slot) || header.kind !== 'CHECKPOINT') continue;
    if (next?.kind !== 'CHECKPOINT' || next.slot !== header.slot + 1) continue;
    if (needed.has(logKey(world.lineage, header.slot))) continue;
    deletions.push(async () => {
      await world.trim(header.slot);
      return `trimmed ${header.slot}`;
    });
  }
  for (const { key } of await world.memory.list(packPrefix(world.lineage))) {
    const parts = parsePackKey(world.lineage, key);
    if (parts === undefined || (parts.slot > highest && !world.broken.has('pack-slot'))) continue;
    const name = key.slice(packPrefix(world.lineage).length);
    if (needed.has(key)) continue;
    deletions.push(async () => {
      await world.memory.delete(packKey(world.lineage, name));
      return `deleted ${name}`;
    });
  }
  while (deletions.length > 0) {
    const [next] = deletions.splice(chance.below(deletions.length), 1);
    scheduler.note(`collector ${await next?.()}`);
    world.count('collected');
    await scheduler.wait(undefined, 'collector', chance.below(200));
  }
}
