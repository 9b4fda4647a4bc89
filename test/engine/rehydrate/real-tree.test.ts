/** Restores on a real disk through the native file tree, compared by what shares no code with the engine. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseFileTree } from '../../../src/edge/host/choose-file-tree.ts';
import { createNativeFileTree } from '../../../src/edge/host/native-file-tree.ts';
import { systemClock } from '../../../src/edge/host/system-clock.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { toHex, utf8Bytes } from '../../../src/engine/model/bytes.ts';
import type { Descriptor, FileTreeWriter } from '../../../src/engine/ports/file-tree.ts';
import { Pod } from '../../support/capture-fixture.ts';
import { lanesOf, restore } from '../../support/restore-fixture.ts';
import { nameAt } from '../../support/tree-names.ts';
import { snapshotTree } from '../../support/tree-snapshot.ts';

const native = createNativeFileTree().tree;
const openNow = (): number => readdirSync('/proc/self/fd').length;

describe.skipIf(native === undefined)('on a real disk', () => {
  const files = native as FileTreeWriter;
  let base: string;
  let opened: number;

  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'holdfast-restore-'));
    opened = openNow();
  });
  afterEach(() => {
    expect(openNow()).toBe(opened);
    rmSync(base, { recursive: true, force: true });
  });

  const open = (name: string): Descriptor => files.makeRoot(join(base, name));

  function writeFile(directory: Descriptor, name: string, content: string): void {
    const file = files.createExclusive(directory, nameAt(name));
    const bytes = utf8Bytes(content);
    files.write(file, bytes, 0, bytes.length, 0);
    files.close(file);
  }

  async function roundTrip(): Promise<{ readonly root: string; readonly got: string; readonly degraded: unknown }> {
    const pod = await Pod.start({ files, clock: systemClock, store: new MemoryStore() });
    const { root } = await pod.capture({ path: join(base, 'source') });
    const { store, access, lineage } = pod;
    const outcome = await restore({
      store,
      access,
      lineage,
      files,
      clock: systemClock,
      path: join(base, 'target'),
      laneCount: 2,
      lanes: lanesOf(files),
    });
    return {
      root: toHex(root),
      got: toHex(outcome.rootGot ?? new Uint8Array(0)),
      degraded: outcome.volumes[0]?.degraded,
    };
  }

  it('paths far longer than PATH_MAX come back', async () => {
    const source = open('source');
    let at = source;
    for (let depth = 0; depth < 400; depth++) {
      const name = nameAt(`level-${depth % 10}-${'x'.repeat(12)}`);
      files.makeDirectory(at, name);
      const next = files.openDirectory(at, name);
      if (depth % 100 === 50) {
        writeFile(next, 'file', `at ${depth}`);
        files.setTimes(next, { mtimeSec: 1_000_000_000 + depth, mtimeNsec: depth });
      }
      if (at !== source) files.close(at);
      at = next;
    }
    writeFile(at, 'deepest', 'here');
    files.makeSymlink(at, nameAt('link'), utf8Bytes('deepest'));
    files.close(at);
    files.close(source);
    const { root, got } = await roundTrip();
    expect(got).toBe(root);
    expect(snapshotTree(join(base, 'target'))).toEqual(snapshotTree(join(base, 'source')));
  });

  it('holes stay holes, and what was allocated is', async () => {
    files.close(open('source'));
    const sparse = openSync(join(base, 'source', 'sparse'), 'w');
    ftruncateSync(sparse, 4 * 2 ** 30);
    writeSync(sparse, 'far', 3 * 2 ** 30);
    closeSync(sparse);
    const zeros = openSync(join(base, 'source', 'zeros'), 'w');
    writeSync(zeros, new Uint8Array(1_000_000));
    closeSync(zeros);
    const { root, got } = await roundTrip();
    expect(got).toBe(root);
    const blocks = (side: string, name: string): number => statSync(join(base, side, name)).blocks;
    expect(statSync(join(base, 'target', 'sparse')).size).toBe(4 * 2 ** 30);
    expect(blocks('target', 'sparse')).toBeLessThanOrEqual(blocks('source', 'sparse') + 8);
    expect(blocks('target', 'zeros')).toBeGreaterThanOrEqual(blocks('source', 'zeros'));
  });

  it('an ACL that the target would pass on reaches no entry', async () => {
    const source = open('source');
    writeFile(source, 'file', 'x');
    files.makeDirectory(source, nameAt('d'));
    files.close(source);
    const target = open('target');
    // Version 2; user::rwx, user:1000:rwx, group::r-x, mask::rwx, other::r-x.
    const entry = (tag: number, rights: number, id = 0xffff_ffff): number[] => [
      tag,
      0,
      rights,
      0,
      id & 0xff,
      (id >>> 8) & 0xff,
      (id >>> 16) & 0xff,
      id >>> 24,
    ];
    const acl = [2, 0, 0, 0, ...entry(1, 7), ...entry(2, 7, 1000), ...entry(4, 5), ...entry(16, 7), ...entry(32, 5)];
    files.setXattr(target, utf8Bytes('system.posix_acl_default'), Uint8Array.from(acl));
    files.close(target);
    const { root, got, degraded } = await roundTrip();
    expect([got, degraded]).toEqual([root, []]);
    expect(snapshotTree(join(base, 'target'))).toEqual(snapshotTree(join(base, 'source')));
  });

  it('by Node alone what it cannot keep is named, and the rest is equal', async () => {
    const source = open('source');
    files.makeDirectory(source, nameAt('d'));
    const below = files.openDirectory(source, nameAt('d'));
    for (const name of ['one', 'two', 'three']) writeFile(below, name, name.repeat(10_000));
    files.makeSymlink(below, nameAt('link'), utf8Bytes('one'));
    files.makeLink(below, nameAt('one'), source, nameAt('again'));
    files.makeFifo(source, nameAt('fifo'));
    const file = files.openFile(below, nameAt('two'));
    files.setTimes(file, { mtimeSec: 1_500_000_000, mtimeNsec: 123_456_789 });
    files.close(file);
    files.close(below);
    files.close(source);
    const pod = await Pod.start({ files, clock: systemClock, store: new MemoryStore() });
    const { root } = await pod.capture({ path: join(base, 'source') });
    const { tree } = chooseFileTree({ only: 'node' });
    const { store, access, lineage } = pod;
    const target = join(base, 'target');
    const outcome = await restore({ store, access, lineage, files: tree, clock: systemClock, path: target });
    const reasons = outcome.volumes[0]?.degraded.map(({ reason }) => reason).join(', ');
    expect(reasons).toMatch(/times not kept/);
    expect(toHex(outcome.rootGot ?? new Uint8Array(0))).not.toBe(toHex(root));
    const coarse = { timeStepNs: 1_000_000n };
    expect(snapshotTree(target, coarse)).toEqual(snapshotTree(join(base, 'source'), coarse));
  });

  it('a directory that passes on its group gives it to nobody', async () => {
    const source = open('source');
    files.makeDirectory(source, nameAt('d'));
    writeFile(source, 'file', 'x');
    files.close(source);
    const target = open('target');
    if (process.getuid?.() === 0) files.setOwner(target, 0, 4242);
    files.setMode(target, 0o2775);
    files.close(target);
    const { root, got } = await roundTrip();
    expect(got).toBe(root);
    expect(snapshotTree(join(base, 'target'))).toEqual(snapshotTree(join(base, 'source')));
  });
});
