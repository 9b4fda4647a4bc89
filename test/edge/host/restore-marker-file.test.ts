import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RestoreMarkerFile } from '../../../src/edge/host/restore-marker-file.ts';
import { toLineageName, toSlot, toVolumeName } from '../../../src/engine/model/ids.ts';
import type { RestoreMark } from '../../../src/engine/ports/restore-marker.ts';

let state: string;

beforeEach(() => {
  state = fs.mkdtempSync(join(tmpdir(), 'holdfast-marker-'));
});
afterEach(() => fs.rmSync(state, { recursive: true, force: true }));

function markerOf(path: string, slot = 7, lineage = 'team/app/0'): RestoreMarkerFile {
  const stateDirectory = join(state, 'not', 'there', 'yet');
  return new RestoreMarkerFile({
    stateDirectory,
    repository: '00'.repeat(16),
    lineage: toLineageName(lineage),
    path,
    slot: toSlot(slot),
  });
}

const mark: RestoreMark = {
  state: 'started',
  checkpoint: 'ab'.repeat(32),
  volume: toVolumeName('data'),
  target: '2049:131072',
  selection: '["a*"]',
  onExisting: 'replace',
  tempPrefix: '.holdfast-0123-',
};

describe('the mark of a restore', () => {
  it('is absent at first, and comes back as it was saved last, with its slot', async () => {
    expect(await markerOf('/srv/a').load()).toBeUndefined();
    await markerOf('/srv/a').save(mark);
    await markerOf('/srv/a', 9).save({ ...mark, state: 'done' });
    expect(await markerOf('/srv/a', 0).loadWithSlot()).toEqual({ mark: { ...mark, state: 'done' }, slot: 9 });
    expect(await markerOf('/srv/a').load()).toEqual({ ...mark, state: 'done' });
  });

  it('belongs to one path and one lineage', async () => {
    await markerOf('/srv/a').save(mark);
    expect(await markerOf('/srv/b').load()).toBeUndefined();
    expect(await markerOf('/srv/a', 7, 'team/app/1').load()).toBeUndefined();
  });

  it('counts as absent when it is torn, changed, or of another version', async () => {
    const marker = markerOf('/srv/a');
    await marker.save(mark);
    const whole = fs.readFileSync(marker.path, 'utf8');
    const broken = [
      '',
      whole.slice(0, whole.length / 2),
      whole.replace('"version": 1', '"version": 2'),
      whole.replace('"started"', '"begun"'),
      whole.replace('"data"', '"../data"'),
      whole.replace('"slot": 7', '"slot": -7'),
      'null',
    ];
    for (const text of broken) {
      expect(text).not.toBe(whole);
      fs.writeFileSync(marker.path, text);
      expect(await marker.load(), text).toBeUndefined();
    }
    fs.writeFileSync(marker.path, whole);
    expect(await marker.load()).toEqual(mark);
  });

  it('is for its owner only, and leaves nothing beside it', async () => {
    const marker = markerOf('/srv/a');
    await marker.save(mark);
    expect(fs.statSync(marker.path).mode & 0o777).toBe(0o600);
    const directory = join(marker.path, '..');
    expect(fs.statSync(directory).mode & 0o777).toBe(0o700);
    expect(fs.readdirSync(directory)).toHaveLength(1);
  });

  it('that cannot be written or read is E_STATE_DIR, with the path', async () => {
    const marker = markerOf('/srv/a');
    fs.writeFileSync(join(state, 'not'), 'a file in the way');
    await expect(marker.save(mark)).rejects.toMatchObject({ code: 'E_STATE_DIR' });
    await expect(marker.load()).rejects.toMatchObject({ code: 'E_STATE_DIR' });
  });
});
