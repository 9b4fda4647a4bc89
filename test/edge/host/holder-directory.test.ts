import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openHolderDirectory } from '../../../src/edge/host/holder-directory.ts';
import { systemRandom } from '../../../src/edge/host/system-random.ts';
import { toHolderId, toLineageName, toRecordId, toSlot } from '../../../src/engine/model/ids.ts';

const repository = '00112233445566778899aabbccddeeff';
const lineage = toLineageName('team/app/0');
const module = new URL('../../../src/edge/host/holder-directory.ts', import.meta.url).href;
const random = new URL('../../../src/edge/host/system-random.ts', import.meta.url).href;

let state: string;
beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), 'holdfast-holder-'));
});
afterEach(async () => {
  await rm(state, { recursive: true, force: true });
});

function open(more: { holder?: string; lineage?: string } = {}) {
  return openHolderDirectory({
    stateDirectory: state,
    repository,
    lineage: more.lineage === undefined ? lineage : toLineageName(more.lineage),
    random: systemRandom,
    ...(more.holder === undefined ? {} : { holder: toHolderId(more.holder) }),
  });
}

/** A process that opens the directory, says so, and stays. */
async function startOwner(): Promise<{ kill(): Promise<void> }> {
  const script = `
    import { openHolderDirectory } from ${JSON.stringify(module)};
    import { systemRandom } from ${JSON.stringify(random)};
    await openHolderDirectory({ stateDirectory: ${JSON.stringify(state)}, repository: ${JSON.stringify(repository)}, lineage: ${JSON.stringify(lineage)}, random: systemRandom });
    process.stdout.write('open');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = await once(child.stdout, 'data');
  expect(String(said)).toBe('open');
  return {
    kill: async () => {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

describe('a holder directory', () => {
  it('makes a random identity once and keeps it', async () => {
    await using first = await open();
    const { holder } = await first.load();
    expect(holder).toMatch(/^[0-9a-f]{32}$/);
    expect((await first.load()).holder).toBe(holder);
    await first[Symbol.asyncDispose]();
    await using second = await open();
    expect((await second.load()).holder).toBe(holder);
    await using other = await open({ lineage: 'team/app/1' });
    expect((await other.load()).holder).not.toBe(holder);
  });

  it('gives back what was saved', async () => {
    await using directory = await open();
    const id = toRecordId(systemRandom.bytes(32));
    const saved = {
      ...(await directory.load()),
      claims: [{ slot: toSlot(3), id }],
      last: { slot: toSlot(4), ids: [id, toRecordId(systemRandom.bytes(32))] },
      includes: toSlot(2),
    };
    await directory.save(saved);
    expect(await directory.load()).toEqual(saved);
    expect((await stat(join(directory.path, 'holder.json'))).mode & 0o777).toBe(0o600);
    expect(await readdir(directory.path)).not.toContain('holder.json.new');
  });

  it('keeps the last state when a later write was cut short', async () => {
    await using directory = await open();
    const before = await directory.load();
    await writeFile(join(directory.path, 'holder.json.new'), '{"version": 1, "hol');
    expect(await directory.load()).toEqual(before);
    await directory.save(before);
    expect(await directory.load()).toEqual(before);
  });

  it("begins anew for another pod's UID", async () => {
    await using first = await open({ holder: 'uid-1' });
    await first.save({ ...(await first.load()), includes: toSlot(9) });
    await first[Symbol.asyncDispose]();
    await using second = await open({ holder: 'uid-2' });
    expect(await second.load()).toEqual({ holder: 'uid-2', claims: [], last: undefined, includes: 0 });
  });

  it('refuses a state it did not write', async () => {
    await using directory = await open();
    const { holder } = await directory.load();
    const file = join(directory.path, 'holder.json');
    for (const text of [
      '',
      'null',
      '{}',
      '{"version":1,"holder":"!"}',
      `{"version":1,"holder":"${holder}","claims":[7]}`,
    ]) {
      await writeFile(file, text);
      await expect(directory.load()).rejects.toMatchObject({ code: 'E_STATE_DIR' });
    }
    await writeFile(file, JSON.stringify({ ...JSON.parse('{"version":2}') }));
    await expect(directory.load()).rejects.toMatchObject({ code: 'E_FORMAT_NEWER' });
  });

  it('says so when the state directory cannot be used', async () => {
    await writeFile(join(state, 'holders'), 'in the way');
    await expect(open()).rejects.toMatchObject({ code: 'E_STATE_DIR' });
    await rm(join(state, 'holders'));
    await using directory = await open();
    await mkdir(join(directory.path, 'holder.json.new'));
    await expect(directory.load()).rejects.toMatchObject({ code: 'E_STATE_DIR' });
  });
});

describe('two processes of one holder', () => {
  it('cannot work on one lineage at once, and can one after the other', async () => {
    await using first = await open();
    await expect(open()).rejects.toMatchObject({
      code: 'E_STATE_DIR',
      message: expect.stringContaining(`${process.pid}`),
    });
    await first.load();
    await using elsewhere = await open({ lineage: 'team/app/1' });
    await elsewhere.load();
    await first[Symbol.asyncDispose]();
    await using second = await open();
    expect(await second.load()).toEqual(await second.load());
  });

  it('are kept apart across processes, and a killed one leaves no lock behind', async () => {
    for (let round = 0; round < 3; round++) {
      const owner = await startOwner();
      await expect(open()).rejects.toMatchObject({ code: 'E_STATE_DIR' });
      await owner.kill();
      await using directory = await open();
      await directory.load();
      expect(await readFile(join(directory.path, 'owner'), 'utf8')).toBe(`${process.pid}\n`);
    }
  });
});
