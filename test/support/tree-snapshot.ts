/**
 * A real directory tree as text, one line a name, to compare two trees with: what a restore must bring back, and nothing
 * else. It shares no code with the engine: Node's own functions read it, xattrs come from the plain functions of libc.
 *
 * Not in it: inodes, ctime, atime, sizes and link counts of directories, and where holes lie. Further names of a file show
 * its first name in order of paths.
 */
import fs, { constants } from 'node:fs';
import koffi from 'koffi';
import { digestBlockBytes, printable, TreeDigest, treeLine } from './tree-digest.ts';

export interface SnapshotOptions {
  /** False leaves owners out, for restores without privileges. */
  readonly owners?: boolean;
  /** False leaves xattrs out. */
  readonly xattrs?: boolean;
  /** Times are compared to this many ns, default 1. */
  readonly timeStepNs?: bigint;
  /** Line of the root itself too. */
  readonly root?: boolean;
}

const onLinux: boolean = process.platform === 'linux';
const readBytes: number = 256 * digestBlockBytes;

/** Lines in order of paths; needs /proc on Linux, so that paths of any length work. */
export function snapshotTree(path: string, options: SnapshotOptions = {}): string[] {
  const lines: string[] = [];
  const firstNames = new Map<string, string>();
  const root = fs.openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    if (options.root === true) lines.push(describe(Buffer.from(path), '.', options));
    visit(root, Buffer.from(path), '', options, lines, firstNames);
  } finally {
    fs.closeSync(root);
  }
  return lines;
}

function visit(
  directory: number,
  path: Buffer,
  prefix: string,
  options: SnapshotOptions,
  lines: string[],
  firstNames: Map<string, string>,
): void {
  const here = onLinux ? Buffer.from(`/proc/self/fd/${directory}`) : path;
  const names = fs.readdirSync(here, { encoding: 'buffer' }).sort(Buffer.compare);
  for (const name of names) {
    const at = Buffer.concat([here, Buffer.from('/'), name]);
    const shown = prefix + printable(name);
    const stat = fs.lstatSync(at, { bigint: true });
    if (!stat.isDirectory() && stat.nlink > 1n) {
      const group = `${stat.dev}:${stat.ino}`;
      const first = firstNames.get(group);
      if (first !== undefined) {
        lines.push(`${shown} = ${first}`);
        continue;
      }
      firstNames.set(group, shown);
    }
    lines.push(describe(at, shown, options));
    if (!stat.isDirectory()) continue;
    const below = fs.openSync(at, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    try {
      visit(below, at, `${shown}/`, options, lines, firstNames);
    } finally {
      fs.closeSync(below);
    }
  }
}

function describe(at: Buffer, path: string, options: SnapshotOptions): string {
  const stat = fs.lstatSync(at, { bigint: true });
  const { owners = true, xattrs = true, timeStepNs = 1n } = options;
  let content = '';
  if (stat.isSymbolicLink()) content = `-> ${printable(fs.readlinkSync(at, { encoding: 'buffer' }))}`;
  else if (stat.isFile()) content = `${stat.size} ${digestFile(at, Number(stat.size))}`;
  return treeLine({
    path,
    mode: Number(stat.mode),
    owner: owners ? `${stat.uid}:${stat.gid}` : undefined,
    mtimeNs: (stat.mtimeNs / timeStepNs) * timeStepNs,
    xattrs: xattrs && onLinux ? readXattrs(at) : [],
    content,
  });
}

function digestFile(at: Buffer, size: number): string {
  const digest = new TreeDigest();
  const file = fs.openSync(at, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const buffer = new Uint8Array(Math.min(readBytes, Math.ceil(size / digestBlockBytes) * digestBlockBytes));
    for (let position = 0; position < size; position += buffer.length) {
      let filled = 0;
      for (let got = 1; got > 0 && filled < buffer.length; filled += got) {
        got = fs.readSync(file, buffer, filled, buffer.length - filled, position + filled);
      }
      buffer.fill(0, filled);
      for (let i = 0; i < filled; i += digestBlockBytes) {
        digest.add((position + i) / digestBlockBytes, buffer.subarray(i, i + digestBlockBytes));
      }
    }
  } finally {
    fs.closeSync(file);
  }
  return digest.text(size);
}

const library = onLinux ? koffi.load(null) : undefined;
const llistxattr = library?.func('long llistxattr(const char *path, _Out_ uint8_t *list, size_t size)');
const lgetxattr = library?.func(
  'long lgetxattr(const char *path, const char *name, _Out_ uint8_t *value, size_t size)',
);

/** What belongs to the machine and not to the data. */
const ignored = /^security\.(selinux|ima|evm)$/;

function readXattrs(at: Buffer): [Uint8Array, Uint8Array][] {
  const path = Buffer.concat([at, Uint8Array.of(0)]);
  const list = Buffer.alloc(65_536);
  const length: number = llistxattr?.(path, list, list.length);
  if (length <= 0) return [];
  const found: [Uint8Array, Uint8Array][] = [];
  for (const name of list
    .subarray(0, length - 1)
    .toString('latin1')
    .split('\0')) {
    if (ignored.test(name)) continue;
    const key = Buffer.from(name, 'latin1');
    const value = Buffer.alloc(65_536);
    const bytes: number = lgetxattr?.(path, Buffer.concat([key, Uint8Array.of(0)]), value, value.length);
    if (bytes < 0) throw new Error(`cannot read the attribute ${name}`);
    found.push([key, Uint8Array.from(value.subarray(0, bytes))]);
  }
  return found;
}
