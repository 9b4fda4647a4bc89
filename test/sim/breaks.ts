/**
 * Rules that can be switched off, in the wrappers of the simulator only: each must make it find a violation. That is the proof that
 * the simulator can fail.
 */
import { ByteReader, ByteWriter, utf8Bytes } from '../../src/engine/model/bytes.ts';
import type { FileTreeWriter } from '../../src/engine/ports/file-tree.ts';
import type { ChangeSource } from '../../src/engine/ports/change-source.ts';
import { ChangedNames } from '../../src/engine/model/changes.ts';
import type { CacheReader, LocalCache } from '../../src/engine/ports/local-cache.ts';
import type { NodeSource } from '../../src/engine/tree/node-access.ts';

export const breaks = {
  'second-list': 'a claimant does not see what stands above its claim',
  fencing: 'a writer sees junk where the claim of its successor stands',
  overwrite: 'the store replaces a record that is there',
  'pack-durable': 'the store acknowledges packs that it does not keep',
  'pack-slot': 'the collector deletes packs of slots that it has not listed',
  'dedup-places': 'entries of the base name the bytes of others',
  'stale-cache': 'a scan cache counts as that of the base, whichever record it belongs to',
  flush: 'pages written through a mapping are not written back before the stat',
  watcher: 'a watcher swallows some of what it is told',
  fresh: 'stamps as young as the clock is coarse are trusted',
  refusal: 'in a bucket, a refused write counts as done',
  pages: 'in a bucket, a list ends with its first page',
  parts: 'a bucket does not keep the last part of an upload',
  leftovers: 'a bucket does not tell unfinished uploads',
} as const;

/** Rules that only a world with a bucket can break. */
export const bucketBreaks: ReadonlySet<Break> = new Set(['refusal', 'pages', 'parts', 'leftovers']);

export type Break = keyof typeof breaks;

export function isBreak(name: string): name is Break {
  return Object.hasOwn(breaks, name);
}

/** Leaves in which two entries have changed places: ids are right, placement is not. */
export function withWrongPlaces(source: NodeSource): NodeSource {
  return {
    load(place, nodeBytes) {
      const node = source.load(place, nodeBytes);
      return node instanceof Promise ? node.then(swapPlaces) : swapPlaces(node);
    },
  };
}

function swapPlaces(node: Uint8Array): Uint8Array {
  const r = new ByteReader(node, 'node');
  const logical = r.blob();
  const head = new ByteReader(logical, 'node');
  head.u8();
  if (head.u8() !== 0) return node;
  head.varint();
  const placements = Array.from({ length: head.varint() }, () => r.blob());
  for (let i = 1; i < placements.length; i++) {
    const [a, b] = [placements[i - 1] as Uint8Array, placements[i] as Uint8Array];
    if (a.length < 4 || a.length !== b.length || Buffer.compare(a, b) === 0) continue;
    placements[i - 1] = b;
    placements[i] = a;
    i++;
  }
  const w = new ByteWriter(node.length);
  w.blob(logical);
  for (const placement of placements) w.blob(placement);
  return w.take();
}

/** Whatever the binding says, it is about the base. */
export function withStaleBinding(cache: LocalCache, base: () => string | undefined): LocalCache {
  return {
    ...cache,
    open(name): CacheReader | undefined {
      const reader = cache.open(name);
      const wanted = base();
      if (reader === undefined || wanted === undefined || !name.startsWith('bound-')) return reader;
      const [, file] = JSON.parse(new TextDecoder().decode(reader.tail)) as [string, string];
      return { ...reader, tail: utf8Bytes(JSON.stringify([wanted, file])) };
    },
  };
}

export function withoutFlush(files: FileTreeWriter): FileTreeWriter {
  return new Proxy(files, {
    get: (target, name) => (name === 'flush' ? () => true : Reflect.get(target, name)),
  });
}

/** A watcher that loses one change of three without notice. */
export function withLostChanges(source: ChangeSource): ChangeSource {
  let told = 0;
  return withMethods(source, {
    async take() {
      const changes = await source.take();
      if (changes.kind === 'everything') return changes;
      const names = new ChangedNames();
      for (const [key, whole] of changes.names.entries()) if (told++ % 3 > 0) names.add(key, whole);
      return { kind: 'names', names };
    },
  });
}

function withMethods<Target extends object>(target: Target, instead: Partial<Target>): Target {
  return new Proxy(target, {
    get(_, name) {
      const value = Reflect.get(instead, name) ?? Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
