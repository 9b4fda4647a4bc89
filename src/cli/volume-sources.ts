/** What is captured and how, as options say it: the same for one checkpoint by a person and for all those of an agent. */
import { relative } from 'node:path';
import { defaultCompaction } from '../engine/capture/compaction-plan.ts';
import type { CaptureSettings, VolumeSource } from '../engine/capture/capture-request.ts';
import { makeSelection, type Selection } from '../engine/capture/select.ts';
import { emptyBytes, equalBytes, utf8Bytes } from '../engine/model/bytes.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { type Slot, toSlot, type VolumeName } from '../engine/model/ids.ts';
import { childKey } from '../engine/model/rel-path.ts';
import { FileTreeError, type FileTreeReader } from '../engine/ports/file-tree.ts';
import { guardOf } from './guard.ts';
import type { Host } from './host.ts';
import { parseBytes, type Parsed, parseDuration, usage } from './options.ts';
import { isWithin } from './session.ts';

const mebibyte = 1024 * 1024;

/** The directories as volumes. One that held its own store or state would chase its own tail: they are left out by name. */
export function volumeSources(
  host: Host,
  directories: readonly { readonly name: VolumeName; readonly path: string }[],
  selection: Selection,
  own: readonly (string | undefined)[],
): VolumeSource[] {
  return directories.map(({ name, path: given }) => {
    const path = host.realPath(given);
    const inside: string[] = [];
    for (const directory of own) {
      if (directory === undefined) continue;
      const real = host.realPath(directory);
      if (isWithin(path, real)) {
        throw new HoldfastError('E_USAGE', `${path} is the store or the state directory, or a part of it`, {
          remedy: 'Checkpoint the directory of the application, and keep store and state elsewhere.',
        });
      }
      if (isWithin(real, path)) inside.push(relative(path, real));
    }
    return { name, path, selection: without(selection, inside) };
  });
}

/**
 * The slot up to which the volumes contain what was committed, because all of them were restored from there; 0 when they were
 * not. E_USAGE when the restore of one is not finished: a checkpoint of half the data must not become the newest.
 */
export async function restoredUpTo(
  host: Host,
  files: FileTreeReader,
  volumes: readonly VolumeSource[],
  markerOf: (path: string) => ReturnType<Host['openMarker']>,
): Promise<Slot> {
  let includes: Slot | undefined;
  for (const { name, path } of volumes) {
    const found = await (await markerOf(path)).loadWithSlot();
    const root = files.openRoot(path);
    const { device, inode } = files.stat(root);
    files.close(root);
    // The mark of another directory that once stood there says nothing.
    const mark = found?.mark.target === `${device}:${inode}` ? found.mark : undefined;
    if (mark?.state === 'damaged') {
      throw new HoldfastError('E_USAGE', `${path} holds a restore that lacks what the store has lost`, {
        remedy:
          'Checkpoint it into a new --lineage; or restore a whole checkpoint over it (--at WHICH --on-existing replace).',
        details: { path, volume: name, checkpoint: mark.checkpoint },
      });
    }
    if (mark?.state === 'started') {
      throw new HoldfastError('E_USAGE', `${path} holds a restore that was not finished`, {
        remedy: `Finish it: holdfast restore --at ${mark.checkpoint.slice(0, 12)} --target ${path}; it resumes.`,
        details: { path, volume: name, checkpoint: mark.checkpoint },
      });
    }
    const whole = found !== undefined && mark?.volume === name && mark.selection === '' && mark.onExisting !== 'keep';
    const slot = whole ? found.slot : toSlot(0);
    if (includes === undefined || slot < includes) includes = slot;
  }
  return includes ?? toSlot(0);
}

/** Before anything is claimed or made: most often it is the path that is wrong. */
export function assertReadable(files: FileTreeReader, { name, path }: VolumeSource): void {
  try {
    files.close(files.openRoot(path));
  } catch (cause) {
    if (!(cause instanceof FileTreeError)) throw cause;
    if (cause.errno === 'EMFILE' || cause.errno === 'ENFILE') {
      throw new HoldfastError('E_LIMIT', 'too many open files', { cause });
    }
    throw new HoldfastError('E_SOURCE_UNREADABLE', `cannot open ${path} for volume ${name}: ${cause.errno}`, {
      details: { path, volume: name, errno: cause.errno },
    });
  }
}

export function selectionOf(parsed: Parsed): Selection {
  return makeSelection(parsed.list('include'), parsed.list('exclude'));
}

function without(selection: Selection, inside: readonly string[]): Selection {
  if (inside.length === 0) return selection;
  const keys = inside.map((path) =>
    path.split('/').reduce((key: Uint8Array, name) => childKey(key, utf8Bytes(name)), emptyBytes),
  );
  return {
    signature: JSON.stringify([selection.signature, inside]),
    all: false,
    selects: (key, isDirectory) => !keys.some((own) => equalBytes(own, key)) && selection.selects(key, isDirectory),
  };
}

/** Size limits by volume. E_USAGE for one of no volume. */
export function sizeLimits(
  command: string,
  parsed: Parsed,
  volumes: readonly { readonly name: VolumeName }[],
): ReadonlyMap<string, number> {
  const limits = new Map<string, number>();
  for (const text of parsed.list('size-limit')) {
    const [, name, bytes] = /^([^=]+)=(.+)$/.exec(text) ?? [];
    if (name === undefined || bytes === undefined) {
      throw usage(command, `--size-limit is ${JSON.stringify(text)}, not NAME=BYTES`);
    }
    limits.set(name, parseBytes(command, 'size-limit', bytes));
  }
  const unknown = [...limits.keys()].find((name) => !volumes.some((volume) => volume.name === name));
  if (unknown !== undefined) throw usage(command, `--size-limit names ${unknown}, which is no --volume`);
  return limits;
}

/** How captures are made, as the options of a command say. */
export function captureSettings(
  host: Host,
  command: string,
  parsed: Parsed,
): Omit<CaptureSettings, 'volumes' | 'final' | 'quiesced' | 'trustCache'> {
  const labels: Record<string, string> = {};
  for (const label of parsed.list('label')) {
    const at = label.indexOf('=');
    if (at <= 0) throw usage(command, `--label is ${JSON.stringify(label)}, not KEY=VALUE`);
    labels[label.slice(0, at)] = label.slice(at + 1);
  }
  const within = parsed.text('converge-within');
  const wait = parsed.text('sqlite-wait');
  if (parsed.given('sqlite-wait') && !parsed.flag('sqlite-locks')) {
    throw usage(command, '--sqlite-wait says how long to wait for --sqlite-locks, which is not given');
  }
  const partial = parsed.text('partial-bytes');
  const level = parsed.number('level', 1, 19, 1);
  return {
    laneCount: parsed.number('lanes', 0, 64, Math.min(host.parallelism, 4)),
    level,
    dataSegmentBytes: level < 3 ? mebibyte / 2 : mebibyte,
    metaSegmentBytes: 32 * 1024,
    packBytesTarget: 64 * mebibyte,
    isolated: parsed.flag('isolated'),
    inlineBytesMax: 256 * 1024,
    extraPassesMax: parsed.number('passes', 0, 1000, 3),
    convergeMsMax: within === undefined ? 60_000 : parseDuration(command, 'converge-within', within),
    partialBytes: partial === undefined ? 1024 * mebibyte : parseBytes(command, 'partial-bytes', partial),
    ...(parsed.flag('sqlite-locks')
      ? { databaseLocks: { waitMs: wait === undefined ? 5000 : parseDuration(command, 'sqlite-wait', wait) } }
      : {}),
    guard: guardOf(command, parsed),
    compaction: parsed.flag('no-compact') ? undefined : defaultCompaction,
    labels,
  };
}
