/**
 * The application that lives on a disk: it makes, writes, maps, moves and removes files at any moment, also between two calls of a
 * capture and several times within one tick of the kernel's clock. What it writes is never written twice, so bytes tell when they
 * were written.
 */
import { fileType } from '../../src/engine/model/stat-record.ts';
import type { MemoryFileSystem, MemoryMapping, MemoryWriter } from '../support/memory-file-tree.ts';
import type { Chance } from './chance.ts';

interface Found {
  readonly path: string;
  readonly type: number;
  readonly mode: number;
}

const entriesMax = 60;

export class Application {
  readonly #disk: MemoryFileSystem;
  readonly #chance: Chance;
  readonly #mapsLate: boolean;
  readonly #mappings: { readonly path: string; readonly mapping: MemoryMapping; size: number }[] = [];
  readonly #writers: MemoryWriter[] = [];
  #written = 0;

  /** @param mapsLate false: writes through a mapping are to files alone that it had mapped from the start */
  constructor(disk: MemoryFileSystem, chance: Chance, { mapsLate }: { readonly mapsLate: boolean }) {
    this.#disk = disk;
    this.#chance = chance;
    this.#mapsLate = mapsLate;
  }

  /** The first files of a volume. */
  populate(files: number): void {
    for (let i = 0; i < files; i++) this.#create();
    if (this.#mapsLate) return;
    for (const { path, type } of this.#all().slice(0, 6)) {
      const { size } = this.#disk.stat(path);
      if (type !== fileType.regular || size < 64) continue;
      this.#mappings.push({ path, mapping: this.#disk.openMapping(path), size });
    }
  }

  /** One change; returns what it was. A change that the state of the disk does not allow is none. */
  edit(): string {
    const chance = this.#chance;
    const all = this.#all();
    const files = all.filter(({ type }) => type === fileType.regular);
    if (all.length > entriesMax) return this.#remove(all);
    const roll = chance.below(100);
    if (files.length === 0 || roll < 12) return this.#create();
    const file = chance.pick(files).path;
    if (roll < 30) return this.#overwrite(file);
    if (roll < 38) return this.#append(file);
    if (roll < 42) return this.#resize(file);
    if (roll < 50) return this.#remove(all);
    if (roll < 58) return this.#rename(all);
    if (roll < 61) return this.#link(file);
    if (roll < 64) return this.#special();
    if (roll < 67) return this.#chmod(chance.pick(all));
    if (roll < 69) return this.#chown(chance.pick(all).path);
    if (roll < 72) return this.#touch(chance.pick(all).path);
    if (roll < 75) return this.#xattr(chance.pick(all));
    if (roll < 79) return this.#sparse(file);
    if (roll < 82) return this.#replaceType(chance.pick(all).path);
    if (roll < 94) return this.#mapped(file);
    return this.#openWriter(file);
  }

  /** The application has stopped: nothing holds a file open. */
  stop(): void {
    for (const { mapping } of this.#mappings.splice(0)) mapping.close();
    for (const writer of this.#writers.splice(0)) writer.close();
  }

  #all(): Found[] {
    const found: Found[] = [];
    const visit = (inode: MemoryFileSystem['root'], prefix: string): void => {
      for (const [name, child] of [...inode.children].sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (/[^\x20-\x7e]/.test(name)) continue;
        found.push({ path: prefix + name, type: child.type, mode: child.mode });
        visit(child, `${prefix}${name}/`);
      }
    };
    visit(this.#disk.root, '');
    return found;
  }

  #freshPath(): string {
    const directories = this.#all().filter(
      ({ type, path }) => type === fileType.directory && path.split('/').length < 4,
    );
    const parent = this.#chance.happens(0.35) ? undefined : directories[this.#chance.below(directories.length + 1)];
    for (;;) {
      const name = `${this.#chance.pick(['a', 'b', 'm', 'z'])}${this.#chance.below(40)}`;
      const path = parent === undefined ? name : `${parent.path}/${name}`;
      if (!this.#disk.exists(path)) return path;
    }
  }

  /** Bytes that were never written before: half noise, half text that compresses. */
  #content(size: number): Uint8Array {
    const bytes = this.#chance.happens(0.5) ? this.#chance.bytes(size) : new Uint8Array(size).fill(0x61);
    const mark = `${this.#written++}:`;
    for (let at = 0; at < size; at += 512) {
      for (let i = 0; i < mark.length && at + i < size; i++) bytes[at + i] = mark.charCodeAt(i);
    }
    return bytes;
  }

  #size(): number {
    const roll = this.#chance.below(100);
    if (roll < 5) return 0;
    if (roll < 70) return 8 + this.#chance.below(300);
    if (roll < 92) return 1000 + this.#chance.below(20_000);
    return 60_000 + this.#chance.below(200_000);
  }

  #create(): string {
    const path = this.#freshPath();
    if (this.#chance.happens(0.25)) {
      this.#disk.mkdir(path);
      return `mkdir ${path}`;
    }
    const size = this.#size();
    this.#disk.writeFile(path, this.#content(size));
    return `create ${path} ${size}`;
  }

  #overwrite(path: string): string {
    const size = this.#disk.stat(path).size;
    if (size > 64 && this.#chance.happens(0.6)) {
      const at = this.#chance.below(size - 32);
      this.#disk.writeAt(path, at, this.#content(8 + this.#chance.below(Math.min(2000, size - at - 8))));
      return `write ${path} at ${at}`;
    }
    // Often with the same size, so that only the stamps tell.
    this.#disk.writeFile(path, this.#content(this.#chance.happens(0.7) ? Math.max(8, size) : this.#size()));
    return `overwrite ${path}`;
  }

  #append(path: string): string {
    this.#disk.writeAt(path, this.#disk.stat(path).size, this.#content(8 + this.#chance.below(600)));
    return `append ${path}`;
  }

  #resize(path: string): string {
    const size = this.#chance.below(this.#disk.stat(path).size * 2 + 100);
    this.#disk.resize(path, size);
    return `resize ${path} ${size}`;
  }

  #remove(all: readonly Found[]): string {
    const { path } = this.#chance.pick(all);
    this.#disk.remove(path);
    return `remove ${path}`;
  }

  #rename(all: readonly Found[]): string {
    const from = this.#chance.pick(all);
    const targets = all.filter(
      ({ path, type }) =>
        type === from.type &&
        type !== fileType.directory &&
        path !== from.path &&
        !path.startsWith(`${from.path}/`) &&
        !from.path.startsWith(`${path}/`),
    );
    let to = this.#freshPath();
    if (to.startsWith(`${from.path}/`)) return 'nothing';
    if (targets.length > 0 && this.#chance.happens(0.4)) to = this.#chance.pick(targets).path;
    this.#disk.rename(from.path, to);
    return `rename ${from.path} ${to}`;
  }

  #link(path: string): string {
    const to = this.#freshPath();
    this.#disk.link(path, to);
    return `link ${path} ${to}`;
  }

  #special(): string {
    const path = this.#freshPath();
    const kind = this.#chance.below(5);
    if (kind === 0) this.#disk.fifo(path);
    else if (kind === 1) this.#disk.socket(path);
    else if (kind === 2) this.#disk.device(path);
    else this.#disk.symlink(path, `target-${this.#written++}`);
    return `special ${kind} ${path}`;
  }

  #chmod({ path, type }: Found): string {
    if (type === fileType.symlink) return 'nothing';
    const mode = this.#chance.pick([0o600, 0o644, 0o755, 0o4711, 0o000]);
    this.#disk.chmod(path, mode);
    return `chmod ${path} ${mode.toString(8)}`;
  }

  #chown(path: string): string {
    this.#disk.chown(path, this.#chance.below(3) * 1000, 7);
    return `chown ${path}`;
  }

  /** Sets mtime, often to what it is: only ctime moves. */
  #touch(path: string): string {
    const { mtimeSec, mtimeNsec } = this.#disk.stat(path);
    const keep = this.#chance.happens(0.5);
    this.#disk.setMtime(
      path,
      keep ? mtimeSec : this.#chance.below(2 ** 31),
      keep ? mtimeNsec : this.#chance.below(1e9),
    );
    return `touch ${path}`;
  }

  #xattr({ path, type }: Found): string {
    if (type !== fileType.regular && type !== fileType.directory) return 'nothing';
    this.#disk.setXattr(path, `user.${this.#chance.below(3)}`, this.#content(8 + this.#chance.below(400)));
    return `xattr ${path}`;
  }

  #sparse(path: string): string {
    const at = this.#chance.below(6) * 65_536 + this.#chance.below(3) * 4096;
    this.#disk.writeAt(path, at, this.#content(8 + this.#chance.below(9000)));
    return `sparse ${path} at ${at}`;
  }

  #replaceType(path: string): string {
    this.#disk.remove(path);
    const kind = this.#chance.below(3);
    if (kind === 0) this.#disk.mkdir(path);
    else if (kind === 1) this.#disk.symlink(path, `now-a-link-${this.#written++}`);
    else this.#disk.writeFile(path, this.#content(this.#size()));
    return `replace ${path} by ${['directory', 'symlink', 'file'][kind]}`;
  }

  /** Writes through mappings, mostly ones that are open already. */
  #mapped(path: string): string {
    const open = this.#mappings;
    if (open.length > 0 && this.#chance.happens(0.15)) {
      open.splice(this.#chance.below(open.length), 1)[0]?.mapping.close();
      return 'unmap';
    }
    let chosen = open.length > 0 && this.#chance.happens(0.75) ? this.#chance.pick(open) : undefined;
    if (chosen === undefined) {
      if (!this.#mapsLate) return 'nothing';
      const { size } = this.#disk.stat(path);
      if (size < 64 || open.length > 3) return 'nothing';
      chosen = { path, mapping: this.#disk.openMapping(path), size };
      open.push(chosen);
    }
    // A mapping does not grow a file, and one that was truncated is no longer written.
    if (!this.#disk.exists(chosen.path) || this.#disk.stat(chosen.path).size < chosen.size) return 'nothing';
    const at = this.#chance.below(chosen.size - 32);
    chosen.mapping.write(at, this.#content(16));
    return `write mapped ${chosen.path} at ${at}`;
  }

  #openWriter(path: string): string {
    if (this.#writers.length > 2) {
      this.#writers.shift()?.close();
      return 'close';
    }
    const writer = this.#disk.openForWriting(path);
    writer.write(0, this.#content(8));
    this.#writers.push(writer);
    return `open and write ${path}`;
  }
}
