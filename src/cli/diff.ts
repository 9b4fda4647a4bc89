/** `holdfast diff`: what differs between two checkpoints of a lineage; parts that are equal are not even read. */
import { decodeEntry } from '../engine/format/entry-codec.ts';
import type { LeafItem } from '../engine/format/tree-node.ts';
import { mergePacks } from '../engine/lineage/base.ts';
import { equalBytes, toHex } from '../engine/model/bytes.ts';
import type { TreeRoot, VolumeCheckpoint } from '../engine/model/checkpoint.ts';
import type { Entry } from '../engine/model/entry.ts';
import { displayPath } from '../engine/model/rel-path.ts';
import { emptyTree } from '../engine/tree/node-access.ts';
import { diffTrees } from '../engine/tree/tree-diff.ts';
import { shortTime, timeText } from './describe-record.ts';
import type { Host } from './host.ts';
import { type Parsed, usage } from './options.ts';
import { formatBytes, formatCount, styled } from './print.ts';
import { formOf, openLineage, recordAt, sourceOf } from './session.ts';
import { fencingJson } from './warnings.ts';

interface Change {
  readonly volume: string;
  readonly path: string;
  readonly change: 'added' | 'removed' | 'changed';
  readonly before: Entry | undefined;
  readonly after: Entry | undefined;
}

const marks = { added: '+', removed: '-', changed: 'M' } as const;
const colours = { added: 'green', removed: 'red', changed: 'yellow' } as const;

export async function diff(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('diff', parsed);
  const [from, to, more] = parsed.positionals;
  if (from === undefined || to === undefined)
    throw usage('diff', 'diff takes two checkpoints, such as latest~1 latest');
  if (more !== undefined) throw usage('diff', `diff takes two checkpoints: ${more}`);
  await using opened = await openLineage(host, 'diff', parsed);
  const { log, store, access, lineage } = opened;
  const before = await recordAt(host, opened, from);
  const after = await recordAt(host, opened, to);
  const beforeBody = log.body(before);
  const afterBody = log.body(after);
  using compressor = await host.compressor();
  const packs = mergePacks((await log.packs(before)).packs, (await log.packs(after)).packs);
  const source = sourceOf(host, store, access, lineage, packs, compressor, { origins: after.header.origins });
  const counts = { added: 0, removed: 0, changed: 0 };
  const { stdout } = host;
  const volumes = pairs(beforeBody.volumes, afterBody.volumes, emptyTree(access.keys));
  const [a, b] = [before.header, after.header];
  if (form === 'json') {
    const sides = {
      from: { slot: a.slot, id: toHex(a.id), time: timeText(a.timeMs), root: toHex(beforeBody.setRoot) },
      to: { slot: b.slot, id: toHex(b.id), time: timeText(b.timeMs), root: toHex(afterBody.setRoot) },
    };
    stdout.write(
      `${JSON.stringify({ lineage, ...fencingJson(opened.repository), ...sides }).slice(0, -1)},"changes":[`,
    );
  } else {
    stdout.write(
      styled(stdout, 'dim', `${a.slot} (${shortTime(a.timeMs)}) to ${b.slot} (${shortTime(b.timeMs)}) of ${lineage}\n`),
    );
  }
  let separator = '';
  for (const { name, before: old, after: young } of volumes) {
    for await (const { key, before: oldItem, after: newItem } of diffTrees(old, young, source, access.keys)) {
      const change: Change = {
        volume: name,
        path: displayPath(key),
        change: oldItem === undefined ? 'added' : newItem === undefined ? 'removed' : 'changed',
        before: entryOf(oldItem),
        after: entryOf(newItem),
      };
      counts[change.change]++;
      if (form === 'json') {
        await stdout.write(separator + JSON.stringify(changeJson(change)));
        separator = ',';
      } else {
        const text = `${marks[change.change]} ${volumes.length > 1 ? `${name}: ` : ''}${change.path}`;
        await stdout.write(`${styled(stdout, colours[change.change], text)}${whatText(change)}\n`);
      }
    }
  }
  const equal = equalBytes(beforeBody.setRoot, afterBody.setRoot);
  if (form === 'json') stdout.write(`],${JSON.stringify({ ...counts, equal }).slice(1)}\n`);
  else if (equal) stdout.write('Equal.\n');
  else {
    const { added, removed, changed } = counts;
    stdout.write(`${formatCount(added)} added, ${formatCount(removed)} removed, ${formatCount(changed)} changed\n`);
  }
  return 0;
}

function pairs(
  before: readonly VolumeCheckpoint[],
  after: readonly VolumeCheckpoint[],
  empty: TreeRoot,
): { readonly name: string; readonly before: TreeRoot; readonly after: TreeRoot }[] {
  const names = new Set([...before, ...after].map(({ name }) => name));
  return [...names].sort().map((name) => ({
    name,
    before: before.find((volume) => volume.name === name)?.root ?? empty,
    after: after.find((volume) => volume.name === name)?.root ?? empty,
  }));
}

function entryOf(item: LeafItem | undefined): Entry | undefined {
  return item === undefined ? undefined : decodeEntry(item.value, item.placement);
}

function sideJson(entry: Entry | undefined): object | undefined {
  if (entry === undefined) return undefined;
  if (entry.type === 'hardlink') return { type: entry.type, target: displayPath(entry.target) };
  const { type, mode, uid, gid, mtimeSec, mtimeNsec } = entry;
  return {
    type,
    ...(entry.type === 'file' ? { size: entry.size } : {}),
    mode: mode.toString(8).padStart(4, '0'),
    uid,
    gid,
    mtime: `${mtimeSec}.${String(mtimeNsec).padStart(9, '0')}`,
  };
}

function changeJson({ volume, path, change, before, after }: Change): object {
  const what = whatChanged(before, after);
  return {
    volume,
    path,
    change,
    ...(what.length > 0 ? { what } : {}),
    before: sideJson(before),
    after: sideJson(after),
  };
}

/** Which parts of an entry that is on both sides differ. */
function whatChanged(before: Entry | undefined, after: Entry | undefined): string[] {
  if (before === undefined || after === undefined) return [];
  if (before.type !== after.type) return ['type'];
  if (before.type === 'hardlink' || after.type === 'hardlink') return ['target'];
  const what: string[] = [];
  if (before.type === 'file' && after.type === 'file' && contentText(before) !== contentText(after))
    what.push('content');
  if (before.type === 'symlink' && after.type === 'symlink' && !equalBytes(before.target, after.target)) {
    what.push('target');
  }
  if (before.mode !== after.mode) what.push('mode');
  if (before.uid !== after.uid || before.gid !== after.gid) what.push('owner');
  if (before.mtimeSec !== after.mtimeSec || before.mtimeNsec !== after.mtimeNsec) what.push('mtime');
  if (xattrText(before) !== xattrText(after)) what.push('xattrs');
  return what;
}

function contentText({ size, content }: Extract<Entry, { type: 'file' }>): string {
  if (content.kind === 'list') return `${size} ${toHex(content.id)}`;
  return `${size} ${content.items.map((item) => (item.kind === 'zero' ? `0*${item.bytes}` : toHex(item.id))).join(' ')}`;
}

function xattrText(entry: Exclude<Entry, { type: 'hardlink' }>): string {
  return entry.xattrs
    .map(({ name, value }) => `${toHex(name)}=${toHex(value.kind === 'inline' ? value.bytes : value.id)}`)
    .join(' ');
}

function whatText({ change, before, after }: Change): string {
  const size = (entry: Entry | undefined): string | undefined =>
    entry?.type === 'file' ? formatBytes(entry.size) : entry?.type;
  if (change !== 'changed') return `  ${size(before ?? after)}`;
  const [old, young] = [size(before), size(after)];
  return `  ${old === young ? old : `${old} to ${young}`}, ${whatChanged(before, after).join(', ')}`;
}
