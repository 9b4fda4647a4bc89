/**
 * Which checkpoint is meant. "No data" has three different answers, and only one of them is a first boot: E_NOT_FOUND, an empty log in
 * a healthy repository. A log that has anything in it but no good checkpoint, or less than an anchor outside the store says, is
 * E_EXPECTED_MISSING; a store without its repository object never gets here (E_REPOSITORY_MISSING).
 */
import type { LogRecord } from '../format/record.ts';
import type { Anchor } from '../model/anchor.ts';
import { equalBytes, toHex } from '../model/bytes.ts';
import { HoldfastError } from '../model/errors.ts';
import { recordIdText, type Slot, slotMax, toSlot } from '../model/ids.ts';
import { contradiction, type LineageLog } from './log.ts';

export type CheckpointSelector =
  /** The newest good one, or the n-th before it. */
  | { readonly by: 'latest'; readonly back: number }
  | { readonly by: 'slot'; readonly slot: Slot }
  /** First digits of a record id, at least 6. */
  | { readonly by: 'id'; readonly prefix: string }
  /** The newest good one made at that time or before, ms since 1970. */
  | { readonly by: 'time'; readonly timeMs: number };

/** A record above the one that was chosen, which did not count. */
export interface PassedRecord {
  readonly slot: Slot;
  /** Why it is void, or `suspect` of a checkpoint that nobody released. */
  readonly reason: string;
  readonly detail: string;
}

export interface ResolveOptions {
  readonly expect?: Anchor | undefined;
  /** Told, newest first, what was passed over on the way to the newest, which somebody may have expected to be it. */
  readonly onPassed?: ((passed: PassedRecord) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The record of a CHECKPOINT. E_NOT_FOUND, E_EXPECTED_MISSING as above; E_DAMAGED when a slot is named whose record cannot be
 * verified. A suspect checkpoint is found by slot and id only.
 */
export async function resolveCheckpoint(
  log: LineageLog,
  at: CheckpointSelector,
  options: ResolveOptions = {},
): Promise<LogRecord> {
  if (options.expect !== undefined) await checkAnchor(log, options.expect, options);
  if (at.by === 'slot') return await atSlot(log, at.slot, options);
  return at.by === 'id' ? await byId(log, at.prefix, options) : await newestBy(log, at, options);
}

/** Lists again when a record was trimmed between its listing and its reading: the newest one is another by then. */
async function newestBy(
  log: LineageLog,
  at: Extract<CheckpointSelector, { by: 'latest' | 'time' }>,
  options: ResolveOptions,
): Promise<LogRecord> {
  const vanished = new Set<Slot>();
  for (;;) {
    let good = 0;
    let anything = false;
    let moved = false;
    const onVanished = (slot: Slot): void => {
      // A store that lists for good what it does not have must not keep anybody here.
      if (!vanished.has(slot)) moved = true;
      vanished.add(slot);
    };
    const passed: PassedRecord[] = [];
    for await (const { slot, reading } of log.entries({ ...options, onVanished })) {
      anything = true;
      if (moved) break;
      if (!reading.valid) {
        passed.push({ slot, reason: reading.reason, detail: reading.detail });
        continue;
      }
      const { record } = reading;
      if (!(await log.isGood(record, options))) {
        if (record.header.kind === 'CHECKPOINT') passed.push({ slot, reason: 'suspect', detail: 'not to rely on' });
        continue;
      }
      if (at.by === 'latest' ? good === at.back : record.header.timeMs <= at.timeMs) {
        for (const one of passed) options.onPassed?.(one);
        return record;
      }
      good++;
    }
    if (moved) continue;
    if (good > 0) {
      const what = at.by === 'latest' ? `only ${good} good checkpoints` : 'no good checkpoint that old';
      throw new HoldfastError('E_NOT_FOUND', `${log.lineage} has ${what}`);
    }
    if (anything) throw new HoldfastError('E_EXPECTED_MISSING', `${log.lineage} has records but no good checkpoint`);
    throw new HoldfastError('E_NOT_FOUND', `${log.lineage} has no checkpoint: nothing was ever stored there`);
  }
}

async function atSlot(log: LineageLog, slot: Slot, options: ResolveOptions): Promise<LogRecord> {
  const reading = await log.read(slot, options);
  if (reading === undefined) throw new HoldfastError('E_NOT_FOUND', `${log.lineage} has no record ${slot}`);
  const above = slot < slotMax ? await log.read(toSlot(slot + 1), options) : undefined;
  const wrong = reading.valid && above?.valid ? contradiction(reading.record, above.record) : undefined;
  if (!reading.valid || wrong !== undefined) {
    const why = reading.valid ? `replaced (${wrong})` : `${reading.reason} (${reading.detail})`;
    throw new HoldfastError('E_DAMAGED', `record ${slot} of ${log.lineage} does not count: ${why}`);
  }
  return checkpointOnly(log, reading.record);
}

async function byId(log: LineageLog, prefix: string, options: ResolveOptions): Promise<LogRecord> {
  const found: LogRecord[] = [];
  for await (const record of log.records(options)) {
    if (recordIdText(record.header.id).startsWith(prefix)) found.push(record);
  }
  const [first, second] = found;
  if (first === undefined) throw new HoldfastError('E_NOT_FOUND', `${log.lineage} has no record with id ${prefix}`);
  if (second !== undefined) {
    throw new HoldfastError(
      'E_NOT_FOUND',
      `${found.length} records of ${log.lineage} have an id that begins with ${prefix}`,
    );
  }
  return checkpointOnly(log, first);
}

function checkpointOnly(log: LineageLog, record: LogRecord): LogRecord {
  const { kind, slot } = record.header;
  if (kind === 'CHECKPOINT') return record;
  throw new HoldfastError('E_NOT_FOUND', `record ${slot} of ${log.lineage} is a ${kind}, not a CHECKPOINT`);
}

/** What to do about a store that shows less than is known outside of it. */
export const anchorRemedy: string =
  'The store has lost what was stored, or hides it: bring it back. Where it was set back, or the lineage deleted, on purpose, take its anchor away: docs/kubernetes.md, "Anchors".';

/** E_EXPECTED_MISSING when the store shows less than, or something else than, what is known outside of it. */
export async function checkAnchor(
  log: LineageLog,
  expect: Anchor,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const missing = (why: string): HoldfastError =>
    new HoldfastError('E_EXPECTED_MISSING', `${log.lineage}: ${why}`, {
      details: { lineage: log.lineage, slot: expect.slot, digest: toHex(expect.digest) },
      remedy: anchorRemedy,
    });
  const { record } = await log.head(options);
  if (record === undefined || record.header.slot < expect.slot) {
    throw missing(`record ${expect.slot} was committed, the newest shown is ${record?.header.slot ?? 'none'}`);
  }
  const reading =
    record.header.slot === expect.slot ? { valid: true as const, record } : await log.read(expect.slot, options);
  if (reading === undefined) throw missing(`record ${expect.slot} is gone`);
  if (!reading.valid) throw missing(`record ${expect.slot} cannot be verified: ${reading.detail}`);
  if (!equalBytes(reading.record.digest, expect.digest))
    throw missing(`record ${expect.slot} is another than was committed`);
}

/**
 * `latest`, `latest~2`, a slot, 6 or more digits of an id, or a time (`2026-03-01`, `2026-03-01T12:00`, seconds, fractions and
 * an offset or `Z` optional; UTC without one). `slot:`, `id:` and `time:` in front say which is meant: digits alone are a slot.
 * E_USAGE otherwise.
 */
export function parseSelector(text: string): CheckpointSelector {
  const latest = /^latest(?:~(\d{1,9}))?$/.exec(text);
  if (latest) return { by: 'latest', back: Number(latest[1] ?? 0) };
  const slot = /^(?:slot:)?([1-9]\d{0,12})$/.exec(text);
  if (slot && Number(slot[1]) <= slotMax) return { by: 'slot', slot: toSlot(Number(slot[1])) };
  const id = /^(?:id:)?([0-9a-f]{6,64})$/.exec(text);
  if (id) return { by: 'id', prefix: id[1] as string };
  const timeMs = parseTime(text.replace(/^time:/, ''));
  if (timeMs !== undefined) return { by: 'time', timeMs };
  throw new HoldfastError('E_USAGE', `${JSON.stringify(text.slice(0, 100))} names no checkpoint`, {
    remedy: 'Give latest, latest~2, a slot, the first 6 digits of an id, or a time such as 2026-03-01T12:00Z.',
  });
}

/** ISO 8601, as much of it as people type; ms since 1970. A time without seconds or day means the end of that minute or day. */
function parseTime(text: string): number | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:\d\d)?$/.exec(
    text,
  );
  if (!match) return undefined;
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
  const whole = match[4] === undefined;
  const [hour, minute] = whole ? [23, 59] : [Number(match[4]), Number(match[5])];
  const second = match[6] === undefined ? 59 : Number(match[6]);
  const milliseconds =
    match[6] === undefined ? 999 : match[7] === undefined ? 999 : Number(match[7].padEnd(3, '0').slice(0, 3));
  if (month < 1 || month > 12 || day < 1 || day > daysOf(year, month) || hour > 23 || minute > 59 || second > 59) {
    return undefined;
  }
  const zone = match[8];
  const offset =
    zone === undefined || zone === 'Z'
      ? 0
      : (zone.startsWith('-') ? -1 : 1) * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4, 6)));
  return ((daysSince1970(year, month, day) * 1440 + hour * 60 + minute - offset) * 60 + second) * 1000 + milliseconds;
}

function isLeap(year: number): boolean {
  return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
}

function daysOf(year: number, month: number): number {
  if (month === 2) return isLeap(year) ? 29 : 28;
  return [4, 6, 9, 11].includes(month) ? 30 : 31;
}

function daysSince1970(year: number, month: number, day: number): number {
  const leaps = (before: number): number =>
    Math.floor(before / 4) - Math.floor(before / 100) + Math.floor(before / 400);
  let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + day - 1;
  for (let m = 1; m < month; m++) days += daysOf(year, m);
  return days;
}
