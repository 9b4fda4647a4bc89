import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, statfsSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Walks over whole trees, with plain Node only: this file shares no code with the engine, so that what it finds equal was
 * not made equal by a common mistake.
 */

const bufferBytes = 1 << 20;

/**
 * Reads every directory, every file's metadata and all content, so that they stand in the page cache.
 * The kernel may reclaim the cache within seconds: call it right before each timed run.
 */
export function readWholeTree(root: string): void {
  const buffer = Buffer.allocUnsafe(bufferBytes);
  const queue = [root];
  for (let directory = queue.pop(); directory !== undefined; directory = queue.pop()) {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) queue.push(path);
      else if (entry.isFile()) {
        const descriptor = openSync(path, 'r');
        while (readSync(descriptor, buffer, 0, bufferBytes, null) === bufferBytes);
        closeSync(descriptor);
      } else lstatSync(path);
    }
  }
}

export interface TreeSize {
  readonly files: number;
  /** Sum of the files' sizes, as `du --apparent-size` counts them, directories left out. */
  readonly bytes: number;
}

/** Adds up the regular files of a tree, or counts one file. */
export function treeSize(root: string): TreeSize {
  const stat = lstatSync(root);
  if (!stat.isDirectory()) return { files: 1, bytes: stat.size };
  let files = 0;
  let bytes = 0;
  const queue = [root];
  for (let directory = queue.pop(); directory !== undefined; directory = queue.pop()) {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) queue.push(path);
      else if (entry.isFile()) {
        files += 1;
        bytes += lstatSync(path).size;
      }
    }
  }
  return { files, bytes };
}

/** @returns bytes that an unprivileged user may still write on the file system of `path` */
export function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

/**
 * Compares two trees: names, types, modes, owners, times to the nanosecond, link counts, link targets and content. The
 * roots themselves are compared as well.
 * @returns what differs, in words, at most `limit` lines; empty when the trees are equal
 */
export function differences(expected: string, actual: string, limit = 20): string[] {
  const found: string[] = [];
  const left = Buffer.allocUnsafe(bufferBytes);
  const right = Buffer.allocUnsafe(bufferBytes);
  const queue = ['.'];
  for (let path = queue.pop(); path !== undefined && found.length < limit; path = queue.pop()) {
    const [one, other] = [join(expected, path), join(actual, path)];
    const stat = lstatSync(one, { bigint: true });
    const got = lstatSync(other, { bigint: true, throwIfNoEntry: false });
    if (got === undefined) {
      found.push(`${path}: missing`);
      continue;
    }
    for (const field of ['mode', 'uid', 'gid', 'mtimeNs'] as const) {
      if (stat[field] !== got[field]) found.push(`${path}: ${field} ${got[field]} instead of ${stat[field]}`);
    }
    if (stat.isDirectory() && got.isDirectory()) {
      const names = readdirSync(one).sort();
      const gotNames = new Set(readdirSync(other));
      for (const name of names) {
        if (gotNames.delete(name)) queue.push(`${path}/${name}`);
        else found.push(`${path}/${name}: missing`);
      }
      for (const name of gotNames) found.push(`${path}/${name}: not expected`);
    } else if (stat.isSymbolicLink() && got.isSymbolicLink()) {
      if (readlinkSync(one) !== readlinkSync(other)) found.push(`${path}: another link target`);
    } else if (stat.isFile() && got.isFile()) {
      if (stat.nlink !== got.nlink) found.push(`${path}: ${got.nlink} names instead of ${stat.nlink}`);
      if (stat.size !== got.size) found.push(`${path}: ${got.size} bytes instead of ${stat.size}`);
      else if (!sameContent(one, other, left, right)) found.push(`${path}: other content`);
    }
  }
  return found.slice(0, limit);
}

function sameContent(one: string, other: string, left: Buffer, right: Buffer): boolean {
  const first = openSync(one, 'r');
  const second = openSync(other, 'r');
  try {
    for (;;) {
      const got = readSync(first, left, 0, bufferBytes, null);
      const gotOther = readSync(second, right, 0, bufferBytes, null);
      if (got !== gotOther || left.compare(right, 0, got, 0, got) !== 0) return false;
      if (got === 0) return true;
    }
  } finally {
    closeSync(first);
    closeSync(second);
  }
}
