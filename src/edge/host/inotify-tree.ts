/**
 * Watches all directories below one by inotify: sets the watches, reads the events, and says which names they are of.
 * Runs in a thread of its own (inotify-thread.ts), since libuv hides that the kernel's queue ran over.
 *
 * Invariants: a directory is watched first and listed after, so what is made in it is either listed or told. Which directory a
 * watch belongs to is known by its number alone: the kernel gives the same one for the same inode, wherever that has moved. No
 * symlink is followed, and no other device is entered. When events are lost all watches are set anew.
 */
import type { ChangeLog, UnknownReason } from '../../engine/model/changes.ts';
import { errnoName } from './errno-name.ts';
import type { LinuxCalls } from './linux-calls.ts';

const event = {
  modify: 0x2,
  attrib: 0x4,
  closeWrite: 0x8,
  movedFrom: 0x40,
  movedTo: 0x80,
  create: 0x100,
  delete: 0x200,
  unmount: 0x2000,
  overflow: 0x4000,
  ignored: 0x8000,
  onlyDirectory: 0x0100_0000,
  excludeUnlinked: 0x0400_0000,
  isDirectory: 0x4000_0000,
} as const;

/** A mapping raises nothing until it ends with the descriptor it was made from: that is what `closeWrite` is for. */
const mask: number =
  event.modify |
  event.attrib |
  event.closeWrite |
  event.movedFrom |
  event.movedTo |
  event.create |
  event.delete |
  event.onlyDirectory |
  event.excludeUnlinked;

const nonBlocking = 0o4000;
const closeOnExec = 0o2000000;
const directoryOnly = 0o200000;
const noFollow = 0o400000;
/** O_PATH would do for the watch, but not for the listing. */
const readOnly = 0;
const typeUnknown = 0;
const typeDirectory = 4;
const eventHeadBytes = 16;
const bufferBytes: number = 256 * 1024;
const listBytes: number = 64 * 1024;
/** Directories open at once while watches are set. */
const depthMax = 512;
const pollIn = 1;

interface WatchedDirectory {
  readonly name: string;
  /** Undefined for the root, and for one that has gone. */
  parent: WatchedDirectory | undefined;
  watch: number;
  readonly children: Map<string, WatchedDirectory>;
}

/** Why watching cannot go on: `errno` of the call, such as ENOSPC when the user's watches are used up. */
export class WatchError extends Error {
  override readonly name = 'WatchError';
  readonly errno: string;

  constructor(errno: string, doing: string) {
    super(`${doing}: ${errno}`);
    this.errno = errno;
  }
}

export class InotifyTree {
  readonly #calls: LinuxCalls;
  readonly #log: ChangeLog;
  readonly #rootDescriptor: number;
  readonly #inotify: number;
  readonly #wake: number;
  readonly #buffer: Uint8Array = new Uint8Array(bufferBytes);
  readonly #view: DataView = new DataView(this.#buffer.buffer);
  readonly #bufferAddress: number;
  /** Another one: directories are listed between two events of one reading. */
  readonly #listed: Uint8Array = new Uint8Array(listBytes);
  readonly #listedView: DataView = new DataView(this.#listed.buffer);
  readonly #listedAddress: number;
  /** Names, paths and what poll needs. */
  readonly #small: Uint8Array = new Uint8Array(1024);
  readonly #smallView: DataView = new DataView(this.#small.buffer);
  readonly #smallAddress: number;
  readonly #watches: Map<number, WatchedDirectory> = new Map();
  /** Directories that left their names; where nobody took them in, their watches end. */
  #leaving: WatchedDirectory[] = [];
  #root: WatchedDirectory;
  #lost = false;
  #rootDevice: bigint | undefined;

  /** `rootDescriptor` and `wake`, an eventfd, are the caller's. Throws WatchError. */
  constructor(calls: LinuxCalls, rootDescriptor: number, wake: number, log: ChangeLog) {
    this.#calls = calls;
    this.#log = log;
    this.#rootDescriptor = rootDescriptor;
    this.#wake = wake;
    this.#bufferAddress = calls.baseAddress(this.#buffer.buffer);
    this.#listedAddress = calls.baseAddress(this.#listed.buffer);
    this.#smallAddress = calls.baseAddress(this.#small.buffer);
    this.#inotify = this.#check(calls.call1(calls.numbers.inotify_init1, nonBlocking | closeOnExec), 'inotify_init1');
    this.#root = newDirectory('', undefined);
    try {
      this.#watchAll();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get directories(): number {
    return this.#watches.size;
  }

  /** Sleeps until there is an event or somebody rings; at most `ms`, for ever when negative. `events` false: only for somebody. */
  sleep(events: boolean, ms: number): void {
    const view = this.#smallView;
    view.setInt32(0, this.#wake, true);
    view.setInt16(4, pollIn, true);
    view.setInt32(8, this.#inotify, true);
    view.setInt16(12, pollIn, true);
    view.setBigInt64(16, BigInt(Math.floor(ms / 1000)), true);
    view.setBigInt64(24, BigInt(Math.round((ms % 1000) * 1e6)), true);
    const timeout = ms < 0 ? 0 : this.#smallAddress + 16;
    const { call5, numbers } = this.#calls;
    call5(numbers.ppoll, this.#smallAddress, events ? 2 : 1, timeout, 0, 8);
    this.#calls.call3(numbers.read, this.#wake, this.#smallAddress, 8);
  }

  /** Reads all events there are. How many there were. Throws WatchError when watching cannot go on. */
  drain(): number {
    let count = 0;
    const leaving = this.#leaving;
    this.#leaving = [];
    for (let filled = this.#read(); filled > 0; filled = this.#read()) {
      for (let at = 0; at < filled; ) {
        const length = this.#view.getUint32(at + 12, true);
        this.#apply(at, length);
        at += eventHeadBytes + length;
        count++;
      }
    }
    for (const directory of leaving) this.#endWatches(directory);
    return count;
  }

  /** Before everything is told: sets the watches anew when events were lost. What happens from then on is told. */
  recover(): void {
    if (!this.#lost) return;
    this.#lost = false;
    let filled: number;
    do filled = this.#read();
    while (filled > 0);
    const before = [...this.#watches.keys()];
    const old = new Map(this.#watches);
    this.#leaving = [];
    this.#root = newDirectory('', undefined);
    this.#watchAll();
    for (const watch of before) {
      if (this.#watches.get(watch) === old.get(watch)) this.#remove(watch);
    }
  }

  close(): void {
    this.#calls.call1(this.#calls.numbers.close, this.#inotify);
  }

  #lose(reason: UnknownReason): void {
    this.#lost = true;
    this.#log.everything(reason);
  }

  #read(): number {
    const { call3, numbers } = this.#calls;
    for (;;) {
      const got = call3(numbers.read, this.#inotify, this.#bufferAddress, bufferBytes);
      if (got >= 0) return got;
      const errno = errnoName(this.#calls.errno());
      if (errno === 'EAGAIN') return 0;
      if (errno !== 'EINTR') throw new WatchError(errno, 'read of inotify events');
    }
  }

  #apply(at: number, length: number): void {
    const view = this.#view;
    const watch = view.getInt32(at, true);
    const what = view.getUint32(at + 4, true);
    if ((what & event.overflow) !== 0) {
      this.#lose('overflow');
      return;
    }
    const directory = this.#watches.get(watch);
    if ((what & event.ignored) !== 0) {
      this.#watches.delete(watch);
      return;
    }
    // What happens to the directory itself is told by the one above it; to the root, by its own stat.
    if (directory === undefined || length === 0 || this.#lost) return;
    const name = nameAt(this.#buffer, at + eventHeadBytes);
    const path = pathOf(directory, this.#root);
    if (path === undefined) return;
    const key = path === '' ? name : `${path}\0${name}`;
    if ((what & event.isDirectory) === 0) {
      this.#log.add(key);
      return;
    }
    const comes = (what & (event.create | event.movedTo)) !== 0;
    if (comes || (what & (event.delete | event.movedFrom)) !== 0) this.#leave(directory, name);
    this.#log.add(key, comes);
    if (comes) this.#enter(directory, name);
  }

  #leave(parent: WatchedDirectory, name: string): void {
    const child = parent.children.get(name);
    if (child === undefined) return;
    parent.children.delete(name);
    child.parent = undefined;
    this.#leaving.push(child);
  }

  /** Of directories that nobody took in under another name. */
  #endWatches(top: WatchedDirectory): void {
    const waiting = [top];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (this.#watches.get(next.watch) === next) this.#remove(next.watch);
      waiting.push(...next.children.values());
    }
  }

  #remove(watch: number): void {
    this.#watches.delete(watch);
    const { call2, numbers } = this.#calls;
    // Fails when the directory is gone, and the watch with it.
    call2(numbers.inotify_rm_watch, this.#inotify, watch);
  }

  #watchAll(): void {
    const again = this.#openIn(this.#rootDescriptor, '.');
    if (again === undefined) throw new WatchError(errnoName(this.#calls.errno()), 'open the volume');
    this.#watchBelow(this.#root, again);
  }

  /** Watches a directory that came to a name, and all below it. */
  #enter(parent: WatchedDirectory, name: string): void {
    const child = newDirectory(name, parent);
    parent.children.set(name, child);
    const names: string[] = [];
    for (let at: WatchedDirectory | undefined = child; at?.parent !== undefined; at = at.parent) names.push(at.name);
    let descriptor = this.#openIn(this.#rootDescriptor, '.');
    for (let next = names.pop(); next !== undefined && descriptor !== undefined; next = names.pop()) {
      const above = descriptor;
      descriptor = this.#openIn(above, next);
      this.#closeDescriptor(above);
    }
    // When it is not there any more, its going is told too.
    if (descriptor !== undefined) this.#watchBelow(child, descriptor);
  }

  /** Takes the descriptor over. */
  #watchBelow(top: WatchedDirectory, descriptor: number): void {
    const stack: { readonly directory: WatchedDirectory; readonly descriptor: number; readonly names: string[] }[] = [];
    const open = (directory: WatchedDirectory, at: number): void => {
      stack.push({ directory, descriptor: at, names: [] });
      if (!this.#watch(directory, at)) return;
      stack[stack.length - 1]?.names.push(...this.#directoriesIn(at));
    };
    try {
      open(top, descriptor);
      for (let frame = stack[stack.length - 1]; frame !== undefined; frame = stack[stack.length - 1]) {
        const name = frame.names.pop();
        if (name === undefined) {
          this.#closeDescriptor(frame.descriptor);
          stack.pop();
          continue;
        }
        if (stack.length >= depthMax) throw new WatchError('ELOOP', `watch directories ${depthMax} levels deep`);
        const below = this.#openIn(frame.descriptor, name);
        if (below === undefined) continue;
        const child = newDirectory(name, frame.directory);
        frame.directory.children.set(name, child);
        open(child, below);
      }
    } finally {
      for (const frame of stack) this.#closeDescriptor(frame.descriptor);
    }
  }

  /** False for a directory of another device. */
  #watch(directory: WatchedDirectory, descriptor: number): boolean {
    if (directory.parent !== undefined && !this.#onSameDevice(descriptor)) return false;
    const path = this.#text(`/proc/self/fd/${descriptor}`);
    const { call3, numbers } = this.#calls;
    const watch = this.#check(call3(numbers.inotify_add_watch, this.#inotify, path, mask), 'inotify_add_watch');
    directory.watch = watch;
    this.#watches.set(watch, directory);
    return true;
  }

  #onSameDevice(descriptor: number): boolean {
    this.#rootDevice ??= this.#deviceOf(this.#rootDescriptor);
    return this.#deviceOf(descriptor) === this.#rootDevice;
  }

  #deviceOf(descriptor: number): bigint {
    const { call5, numbers } = this.#calls;
    const emptyPath = 0x1000;
    const path = this.#text('');
    this.#check(call5(numbers.statx, descriptor, path, emptyPath, 0, this.#smallAddress + 512), 'statx');
    return this.#smallView.getBigUint64(512 + 136, true);
  }

  #directoriesIn(descriptor: number): string[] {
    const names: string[] = [];
    const { call3, numbers } = this.#calls;
    for (;;) {
      const filled = call3(numbers.getdents64, descriptor, this.#listedAddress, listBytes);
      // A directory that is gone has no names.
      if (filled <= 0) return names;
      for (let at = 0; at < filled; at += this.#listedView.getUint16(at + 16, true)) {
        const type = this.#listed[at + 18];
        if (type !== typeDirectory && type !== typeUnknown) continue;
        const name = nameAt(this.#listed, at + 19);
        if (name !== '.' && name !== '..') names.push(name);
      }
    }
  }

  /** Undefined when it is not there, is no directory, or may not be entered: then a walk cannot enter it either. */
  #openIn(directory: number, name: string): number | undefined {
    const { call4, numbers } = this.#calls;
    const flags = readOnly | directoryOnly | noFollow | closeOnExec;
    const descriptor = call4(numbers.openat, directory, this.#text(name), flags, 0);
    if (descriptor >= 0) return descriptor;
    const errno = errnoName(this.#calls.errno());
    if (errno === 'EMFILE' || errno === 'ENFILE') throw new WatchError(errno, 'open a directory');
    return undefined;
  }

  #closeDescriptor(descriptor: number): void {
    this.#calls.call1(this.#calls.numbers.close, descriptor);
  }

  /** Address of a text of single bytes, ended by a zero, until the next call. */
  #text(text: string): number {
    for (let i = 0; i < text.length; i++) this.#small[64 + i] = text.charCodeAt(i);
    this.#small[64 + text.length] = 0;
    return this.#smallAddress + 64;
  }

  #check(result: number, doing: string): number {
    if (result >= 0) return result;
    throw new WatchError(errnoName(this.#calls.errno()), doing);
  }
}

function nameAt(bytes: Uint8Array, start: number): string {
  let text = '';
  for (let i = start; bytes[i] !== 0; i++) text += String.fromCharCode(bytes[i] as number);
  return text;
}

function newDirectory(name: string, parent: WatchedDirectory | undefined): WatchedDirectory {
  return { name, parent, watch: -1, children: new Map() };
}

/** Key text of a directory; undefined when it has left the volume. */
function pathOf(directory: WatchedDirectory, root: WatchedDirectory): string | undefined {
  let path = '';
  let at: WatchedDirectory = directory;
  while (at.parent !== undefined) {
    path = path === '' ? at.name : `${at.name}\0${path}`;
    at = at.parent;
  }
  return at === root ? path : undefined;
}
