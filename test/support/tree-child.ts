/**
 * A process of its own for tests of the file tree that need one: fewer descriptors, no privileges, no dumps.
 * Usage: node tree-child.ts <task> <implementation> <directory>; prints one line of JSON.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { FileTreeError, type FileTreeWriter } from '../../src/engine/ports/file-tree.ts';
import { chooseFileTree, type FileTreeName } from '../../src/edge/host/choose-file-tree.ts';
import { loadLinuxCalls } from '../../src/edge/host/linux-calls.ts';
import { closeMemory } from '../../src/edge/host/close-memory.ts';
import { listedNames, nameAt } from './tree-names.ts';

const nobody = 65_534;

const tasks: Readonly<Record<string, (tree: FileTreeWriter, directory: string) => unknown>> = {
  /** Opens directories until the limit of the process is met. */
  exhaust(tree, directory) {
    for (let opened = 0; opened < 5000; opened++) {
      const errno = errnoOf(() => void tree.openRoot(directory));
      if (errno !== undefined) return { opened, errno };
    }
    return { errno: 'none' };
  },

  /** Makes files of its own as a user without rights, with its memory closed to others. */
  unprivileged(tree, directory) {
    const dumpable = tree.abilities.name === 'native' && closeMemory();
    const root = tree.openRoot(directory);
    const foreign = nameAt('foreign');
    const opened = tree.openFile(root, foreign);
    const into = new Uint8Array(100);
    const read = tree.read(opened, into, 0, 100, 0);
    const content = utf8Bytes('mine');
    const nameless = tree.createNameless(root);
    const file = nameless ?? tree.createExclusive(root, nameAt('mine'));
    tree.write(file, content, 0, content.length, 0);
    if (nameless !== undefined) tree.linkNameless(file, root, nameAt('mine'));
    return {
      dumpable,
      read,
      flushed: tree.flush(opened),
      mayHaveWriter: tree.mayHaveWriter(opened),
      nameless: nameless !== undefined,
      chown: errnoOf(() => tree.setOwner(file, 0, 0)),
      chmodForeign: errnoOf(() => tree.setModeOfName(root, foreign, 0o600)),
      names: listedNames(tree.list(root)).map(({ name }) => new TextDecoder().decode(name)),
    };
  },

  /** Whether other processes may read this one's memory. */
  dumpable() {
    const { calls } = loadLinuxCalls();
    const getDumpable = 3;
    const read = (): number | undefined => calls?.call5(calls.numbers.prctl, getDumpable, 0, 0, 0, 0);
    const before = read();
    return { before, forbidden: closeMemory(), after: read() };
  },

  /** Lists a directory whose names can be read but not looked up. */
  searchless(tree, directory) {
    const root = tree.openRoot(directory);
    return listedNames(tree.list(root)).map(({ name, stat }) => [
      new TextDecoder().decode(name),
      stat.mode,
      stat.inode,
    ]);
  },

  /** Which of the descriptors it opens a child process would inherit. */
  inherited(tree, directory) {
    const root = tree.openRoot(directory);
    writeFileSync(`${directory}/file`, '');
    mkdirSync(`${directory}/below`);
    const opened: (number | undefined)[] = [
      root,
      tree.openFile(root, nameAt('file')),
      tree.openDirectory(root, nameAt('below')),
      tree.openBeneath(root, nameAt('below')),
      tree.createNameless(root),
      tree.createExclusive(root, nameAt('exclusive')),
    ];
    return opened.filter((descriptor) => descriptor !== undefined && !closesOnExec(descriptor));
  },
};

function closesOnExec(descriptor: number): boolean {
  const info = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1');
  return (Number.parseInt(/^flags:\s*(\d+)/m.exec(info)?.[1] ?? '0', 8) & 0o2000000) !== 0;
}

function errnoOf(action: () => void): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof FileTreeError) return error.errno;
    throw error;
  }
}

const [task = '', implementation = '', directory = ''] = process.argv.slice(2);
const run = tasks[task];
if (run === undefined) throw new Error(`no task ${task}`);
const { tree } = chooseFileTree({ only: implementation as FileTreeName });
if ((task === 'unprivileged' || task === 'searchless') && process.getuid?.() === 0) {
  writeFileSync(`${directory}/foreign`, 'not yours');
  chmodSync(`${directory}/foreign`, 0o644);
  chmodSync(directory, task === 'searchless' ? 0o744 : 0o777);
  process.setgroups?.([]);
  process.setgid?.(nobody);
  process.setuid?.(nobody);
}
const result = run(tree, directory);
console.log(JSON.stringify(result, (_key, value) => (typeof value === 'bigint' ? String(value) : value)));
