/** The init container with everything in memory: what others do between any two of its steps, and its end at any of them. */
import { hash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type DataPolicy, defaultPolicies } from '../../../src/agent/rehydrate/data-policy.ts';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { logPrefix, packPrefix, receiptPrefix } from '../../../src/engine/format/object-keys.ts';
import { claimLineage } from '../../../src/engine/lineage/claim.ts';
import { LineageLog } from '../../../src/engine/lineage/log.ts';
import { readReceipts } from '../../../src/engine/lineage/receipts.ts';
import { toHex } from '../../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { parseReceipt } from '../../../src/contract/receipt.ts';
import type { CaptureOutcome } from '../../../src/engine/capture/capture-outcome.ts';
import { toHolderId, toLineageName } from '../../../src/engine/model/ids.ts';
import { ManualClock, Pod, seededRandom } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';
import { MemoryHolder } from '../../engine/lineage/fixture.ts';
import { Container, Killed, type PortCall } from './container-fixture.ts';

const lineage = toLineageName('team/app/0');
const log = logPrefix(lineage);

interface World {
  readonly store: MemoryStore;
  readonly disk: MemoryFileSystem;
  readonly pod: Pod;
}

async function emptyWorld(): Promise<World> {
  const store = new MemoryStore();
  const disk = new MemoryFileSystem();
  return { store, disk, pod: await Pod.start({ store, files: new MemoryFileTree(disk), holder: 'pod-1' }) };
}

type Files = Readonly<Record<string, string>>;

/** A pod that has stored something, and may store more. */
async function predecessor(files: Files): Promise<World & { readonly save: (more: Files) => Promise<CaptureOutcome> }> {
  const { store, disk, pod } = await emptyWorld();
  const save = async (more: Files): Promise<CaptureOutcome> => {
    for (const [name, text] of Object.entries(more)) disk.writeFile(name, text);
    return await pod.capture();
  };
  await save(files);
  return { store, disk, pod, save };
}

/** Another pod claims, whatever stands there. */
async function otherClaims(store: MemoryStore, pod: Pod, uid: string): Promise<void> {
  await claimLineage({
    store,
    access: pod.access,
    lineage,
    holder: new MemoryHolder(uid),
    holderName: uid,
    // Later than everybody else.
    clock: new ManualClock(Date.UTC(2026, 0, 2)),
    random: seededRandom(uid),
    liveness: { isGone: async () => 'unknown' },
    policy: 'pod',
    used: false,
  });
}

const creates = ({ what }: PortCall): boolean => what.startsWith(`create ${log}`);

describe('what a predecessor stores', () => {
  test('between restore and claim is restored too, with what it removed', async () => {
    const { store, disk, save } = await predecessor({ ledger: 'one', old: 'goes' });
    const container = new Container(store, 'pod-2');
    let met = 0;
    container.onCall = async (call) => {
      // Just before its claim.
      if (call.when !== 'before' || !creates(call) || met++ > 0) return;
      disk.remove('old');
      await save({ ledger: 'two', young: 'comes' });
    };
    const receipt = await container.run();
    expect(met).toBeGreaterThan(1);
    expect(container.content).toEqual({ ledger: 'two', young: 'comes' });
    expect(receipt).toMatchObject({ outcome: 'restored', moved: 1, verified: true, suspect: false });
    expect(container.marker).toMatchObject({ phase: 'done' });
  });

  test('after the claim is refused, so the successor has all that was acknowledged', async () => {
    const { store, save } = await predecessor({ ledger: 'one' });
    const container = new Container(store, 'pod-2');
    const refused: unknown[] = [];
    container.onCall = async (call) => {
      if (call.when === 'after' && creates(call)) refused.push(await save({ ledger: 'late' }).catch((error) => error));
    };
    expect(await container.run()).toMatchObject({ outcome: 'restored', moved: 0 });
    expect(refused).toMatchObject([{ code: 'E_FENCED' }]);
    expect(container.content).toEqual({ ledger: 'one' });
  });

  test('at a first boot is not passed over either', async () => {
    const { store, disk, pod } = await emptyWorld();
    const container = new Container(store, 'pod-2');
    let met = 0;
    container.onCall = async (call) => {
      if (call.when !== 'before' || !creates(call) || met++ > 0) return;
      disk.writeFile('ledger', 'first');
      await pod.capture();
    };
    expect(await container.run()).toMatchObject({ outcome: 'restored', moved: 1, policy: { answer: 'data' } });
    expect(container.content).toEqual({ ledger: 'first' });
  });
});

describe('another pod that claims', () => {
  test('between claim and last LIST keeps the application from starting', async () => {
    const { store, pod } = await predecessor({ ledger: 'one' });
    const container = new Container(store, 'pod-2');
    let met = 0;
    let lists = 0;
    container.onCall = async (call) => {
      if (call.when === 'after' && creates(call)) met++;
      // Its claim is confirmed by the first LIST after it; the last one comes later.
      if (call.when === 'before' && call.what === `list ${log}` && met === 1 && ++lists === 2) {
        await otherClaims(store, pod, 'pod-3');
      }
    };
    await expect(container.run()).rejects.toMatchObject({ code: 'E_LINEAGE_HELD', exit: 14 });
    expect(container.events.map(({ event }) => event)).toContain('rehydrate.superseded');
    expect(container.marker).toMatchObject({ phase: 'started' });
    expect(container.receipts.at(-1)).toMatchObject({ outcome: 'failed', epoch: null, error: { exit: 14 } });
    // It goes on when that pod is known to be gone.
    container.onCall = undefined;
    container.gone.add(toHolderId('pod-3'));
    expect(await container.run()).toMatchObject({ outcome: 'restored', verified: true });
  });
});

describe('a replica slot', () => {
  test('that another pod takes between the choice and the claim is left to it, and the next one is taken', async () => {
    const { store, pod } = await predecessor({ ledger: 'of slot 0' });
    const disk = new MemoryFileSystem();
    disk.writeFile('ledger', 'of slot 1');
    const files = new MemoryFileTree(disk);
    const other = await Pod.start({ store, files, holder: 'pod-2', lineage: 'team/app/1', access: pod.access });
    await other.capture();
    const container = new Container(store, 'pod-4');
    container.settings = {
      lineage: toLineageName('team/app'),
      slots: { mode: 'claim', replicas: 2, whenHeld: 'take' },
    };
    let met = 0;
    container.onCall = async (call) => {
      // It has chosen slot 0, the one with the oldest claim, and is about to restore and claim it.
      const marked = call.what === 'state rehydrate.json' && call.when === 'after';
      if (marked && met++ === 0) await otherClaims(store, pod, 'pod-3');
    };
    expect(await container.run()).toMatchObject({ outcome: 'restored', lineage: 'team/app/1', verified: true });
    expect(met).toBeGreaterThan(1);
    expect(container.content).toEqual({ ledger: 'of slot 1' });
    expect(container.marker).toMatchObject({ lineage: 'team/app/1', phase: 'done' });
    expect(await new LineageLog(store, pod.access, lineage).head()).toMatchObject({
      record: { header: { kind: 'CLAIM', holder: 'pod-3' } },
    });
  });
});

describe('an older checkpoint', () => {
  const older = { ...defaultPolicies, missing: { act: 'older', ageMsMax: 3_600_000, text: 'older:1h' } } as const;
  /** Too much for a record, and not to be compressed: it gets a pack of its own. */
  const large = Array.from({ length: 12_000 }, (_, i) => hash('sha256', String(i))).join('');

  async function damaged(): Promise<World & { readonly olderSlot: number }> {
    const world = await predecessor({ ledger: 'one' });
    const olderSlot = (await headOf(world)).slot;
    await world.save({ ledger: 'two', large });
    const { slot } = await headOf(world);
    const packs = (await world.store.list(packPrefix(lineage))).filter(({ key }) => key.includes(`/${slot}-`));
    expect(packs.length).toBeGreaterThan(0);
    for (const { key } of packs) await world.store.delete(key);
    return { ...world, olderSlot };
  }

  async function headOf({ store, pod }: World): Promise<{ readonly slot: number; readonly base: number | undefined }> {
    const { record } = await new LineageLog(store, pod.access, lineage).head();
    return { slot: record?.header.slot ?? 0, base: record?.header.base?.slot };
  }

  test('is named by the CLAIM as its base, so that no collector takes it', async () => {
    const world = await damaged();
    const container = new Container(world.store, 'pod-2');
    container.settings = { policies: older };
    expect(await container.run()).toMatchObject({
      outcome: 'restored',
      from: { slot: world.olderSlot },
      policy: { answer: 'missing', applied: 'older:1h' },
    });
    expect(container.content).toEqual({ ledger: 'one' });
    expect(await headOf(world)).toMatchObject({ base: world.olderSlot });
  });

  test('is not taken when it is too old', async () => {
    const world = await damaged();
    const container = new Container(world.store, 'pod-2');
    container.settings = { policies: older };
    container.clock.ms += 3_700_000;
    await expect(container.run()).rejects.toThrow('waits for ever');
    expect(container.receipts.at(-1)).toBeUndefined();
    expect(JSON.parse(container.state.get('receipt.json') ?? '')).toMatchObject({ outcome: 'waiting' });
    expect(container.marker).toMatchObject({ phase: 'started' });
  });
});

describe('a store that goes away, where a policy says to begin all the same', () => {
  const empty = { ...defaultPolicies, unreachable: { act: 'empty', text: 'empty' } } as const;

  /** Requests whose name matches fail. */
  async function failing(what: RegExp): Promise<Container> {
    const { store } = await predecessor({ ledger: 'one', rest: 'x'.repeat(9000) });
    const container = new Container(store, 'pod-2');
    container.settings = { policies: empty };
    container.survives = true;
    container.onCall = (call) => {
      if (call.when === 'before' && what.test(call.what)) throw new HoldfastError('E_STORE_UNREACHABLE', 'no network');
    };
    return container;
  }

  test('before anything was found: the volume is empty, nothing is claimed, and the first checkpoint suspect', async () => {
    const container = await failing(/^(get|list|range|create)/);
    expect(await container.run()).toMatchObject({ outcome: 'empty', epoch: null, suspect: true, from: null });
    expect(container.content).toEqual({});
    expect(container.marker).toMatchObject({ phase: 'done', suspect: true });
  });

  test('what stands there without a marker is kept all the same', async () => {
    const container = await failing(/^(get|list|range|create)/);
    container.disk.writeFile('data/foreign', 'of nobody knows whom');
    expect(await container.run()).toMatchObject({ outcome: 'kept', epoch: null, suspect: true });
    expect(container.content).toEqual({ foreign: 'of nobody knows whom' });
  });

  test('what an earlier run has restored in part is taken away: empty is empty', async () => {
    const { store } = await predecessor({ ledger: 'one', rest: 'x'.repeat(9000) });
    const container = new Container(store, 'pod-2');
    let files = 0;
    container.onFileCall = (operation) => {
      if (operation === 'linkNameless' && ++files === 2) throw new Killed();
    };
    await expect(container.run()).rejects.toThrow(Killed);
    expect(Object.keys(container.content)).toHaveLength(1);
    container.onFileCall = undefined;
    container.settings = { policies: empty };
    container.survives = true;
    container.onCall = ({ what }) => {
      if (/^(get|list|range|create)/.test(what)) throw new HoldfastError('E_STORE_UNREACHABLE', 'no network');
    };
    expect(await container.run()).toMatchObject({ outcome: 'empty', suspect: true });
    expect(container.content).toEqual({});
  });

  test('after all was restored: that is what it begins with, unclaimed', async () => {
    const container = await failing(/^create .*\/log\//);
    expect(await container.run()).toMatchObject({
      outcome: 'restored',
      verified: true,
      epoch: null,
      suspect: true,
      warnings: expect.arrayContaining([expect.stringContaining('not claimed')]),
    });
    expect(container.content).toEqual({ ledger: 'one', rest: 'x'.repeat(9000) });
  });
});

describe('a checkpoint that was asked for, while the store goes away for a moment', () => {
  const anyAge = { act: 'older', ageMsMax: 3_600_000, text: 'older:1h' } as const;

  /** The store fails once, at the first request after such a call. */
  async function interrupted(after: RegExp, unreachable: DataPolicy): Promise<{ container: Container; good: number }> {
    const { store, save } = await predecessor({ ledger: 'older' });
    const { committed } = await save({ ledger: 'good' });
    await save({ ledger: 'poison' });
    const prefix = toHex(committed?.id ?? new Uint8Array()).slice(0, 12);
    const container = new Container(store, 'pod-2');
    container.settings = {
      policies: { ...defaultPolicies, unreachable },
      restoreAt: { text: `id:${prefix}`, at: { by: 'id', prefix } },
    };
    container.survives = true;
    let state: 'before' | 'due' | 'past' = 'before';
    container.onCall = ({ what, when }) => {
      if (state === 'before' && after.test(what)) state = 'due';
      if (state !== 'due' || when !== 'before' || !/^(get|list|range)/.test(what)) return;
      state = 'past';
      throw new HoldfastError('E_STORE_UNREACHABLE', 'no network');
    };
    return { container, good: committed?.slot ?? 0 };
  }

  test.each([
    ['before it was looked up', /^/],
    ['after it was chosen', /^state rehydrate.json/],
  ])('%s, is not answered with another one', async (_, after) => {
    const { container, good } = await interrupted(after, anyAge);
    expect(await container.run()).toMatchObject({ from: { slot: good }, restoreAt: { outcome: 'restored' } });
    expect(container.content).toEqual({ ledger: 'good' });
  });

  test('where a policy says to begin with nothing, is not said to be restored', async () => {
    const { container } = await interrupted(/^state rehydrate.json/, { act: 'empty', text: 'empty' });
    container.onFileCall = (operation) => {
      if (operation === 'linkNameless') throw new HoldfastError('E_STORE_UNREACHABLE', 'no network');
    };
    container.onCall = undefined;
    expect(await container.run()).toMatchObject({ outcome: 'empty', restoreAt: { outcome: 'not-applied' } });
    expect(container.content).toEqual({});
  });
});

describe('the receipt in the store', () => {
  test('says what the pod has, newest claim first, and junk beside it hides nothing', async () => {
    const { store, pod, save } = await predecessor({ ledger: 'one' });
    const second = await new Container(store, 'pod-2').run();
    await save({}).catch(() => undefined);
    const third = await new Container(store, 'pod-3').run();
    await store.create(`${receiptPrefix(lineage)}0000000000-junk`, new Uint8Array(100));
    const texts = await readReceipts(store, pod.access, lineage, { limit: 10 });
    expect(texts.map((text) => parseReceipt(text))).toEqual([third, second]);
  });

  test('that cannot be stored keeps no application from starting, and is said', async () => {
    const { store } = await predecessor({ ledger: 'one' });
    const container = new Container(store, 'pod-2');
    container.onCall = ({ what }) => {
      if (what.includes('/receipt/')) throw new HoldfastError('E_STORE_FULL', 'no space');
    };
    // What it says of itself is not what ends this one.
    container.survives = true;
    const receipt = await container.run();
    expect(receipt).toMatchObject({
      outcome: 'restored',
      warnings: expect.arrayContaining([expect.stringContaining('no space')]),
    });
    expect(container.marker).toMatchObject({ phase: 'done' });
  });

  test('of a container that fails tells why', async () => {
    const { store, pod } = await predecessor({ ledger: 'one' });
    const container = new Container(store, 'pod-2');
    container.disk.writeFile('data/foreign', 'x');
    await expect(container.run()).rejects.toMatchObject({ code: 'E_TARGET_NOT_EMPTY' });
    const [text = ''] = await readReceipts(store, pod.access, lineage, { limit: 10 });
    expect(parseReceipt(text)).toMatchObject({ outcome: 'failed', error: { code: 'E_TARGET_NOT_EMPTY', exit: 20 } });
  });
});

describe('an end', () => {
  const files = { ledger: 'one', rest: 'x'.repeat(5000), third: 'three' };

  /** Runs to the `nth` use of a port, dies there, and runs again. True when there is no nth. */
  async function diesAt(nth: number, memory: boolean, reboots: boolean): Promise<boolean> {
    const { store, save } = await predecessor(files);
    const container = new Container(store, 'pod-2', { memory });
    let calls = 0;
    const die = (): void => {
      if (++calls === nth) throw new Killed();
    };
    container.onCall = die;
    container.onFileCall = die;
    let died = false;
    try {
      await container.run();
    } catch (error) {
      died = true;
      expect(error).toBeInstanceOf(Killed);
    }
    if (container.marker?.phase === 'done') expect(container.content).toEqual(files);
    container.onCall = undefined;
    container.onFileCall = undefined;
    if (reboots) container.reboot();
    // Where nothing was claimed yet, the predecessor goes on.
    const more = await save({ ledger: 'two' }).then(
      () => true,
      () => false,
    );
    await container.run();
    expect(container.content, `died at ${nth}`).toEqual(more ? { ...files, ledger: 'two' } : files);
    expect(container.marker).toMatchObject({ phase: 'done', suspect: false });
    return !died;
  }

  test.each([
    ['on a disk', false, false],
    ['in memory', true, false],
    ['in memory, and a reboot', true, true],
    ['on a disk, and a reboot', false, true],
  ] as const)('at any moment is made good by the next run: a volume %s', async (_, memory, reboots) => {
    let nth = 1;
    while (!(await diesAt(nth, memory, reboots))) nth++;
    expect(nth).toBeGreaterThan(40);
  });

  test('at any moment of a first boot leaves it a first boot', async () => {
    let nth = 1;
    for (let over = false; !over; nth++) {
      const { store } = await emptyWorld();
      const container = new Container(store, 'pod-2');
      let calls = 0;
      container.onCall = () => {
        if (++calls === nth) throw new Killed();
      };
      over = await container.run().then(
        () => true,
        () => false,
      );
      container.onCall = undefined;
      expect(await container.run()).toMatchObject({ outcome: expect.stringMatching(/empty|kept/) });
      expect(container.marker, `died at ${nth}`).toMatchObject({ phase: 'done', suspect: false });
    }
    expect(nth).toBeGreaterThan(8);
  });
});
