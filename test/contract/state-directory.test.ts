import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseReceipt, printReceipt, type RestoreReceipt } from '../../src/contract/receipt.ts';
import { parseMarker, printMarker, type RehydrateMarker } from '../../src/contract/state-directory.ts';
import { toLineageName, toSlot, toVolumeName } from '../../src/engine/model/ids.ts';
import { runs } from '../support/arbitraries.ts';

const marker: RehydrateMarker = {
  podUid: 'pod-1',
  lineage: toLineageName('team/app/0'),
  writes: true,
  suspect: false,
  phase: 'done',
  volumes: new Map([
    [
      toVolumeName('data'),
      {
        phase: 'done',
        memory: false,
        bootId: 'boot-1',
        from: { kind: 'checkpoint', slot: toSlot(7), id: 'ab'.repeat(32) },
      },
    ],
    [
      toVolumeName('cache'),
      { phase: 'started', memory: true, bootId: '', from: { kind: 'empty', why: 'unreachable' } },
    ],
    [toVolumeName('logs'), { phase: 'done', memory: false, bootId: 'boot-1', from: { kind: 'kept' } }],
  ]),
};

const receipt: RestoreReceipt = {
  version: 1,
  outcome: 'empty',
  podUid: 'pod-1',
  podName: 'app-1',
  lineage: 'team/app/0',
  store: 'file:/srv',
  startedAt: '2026-01-01T00:00:00.000Z',
  endedAt: '2026-01-01T00:00:01.000Z',
  seconds: 1,
  from: null,
  epoch: 1,
  handoff: null,
  restoreAt: null,
  policy: { answer: 'first-boot', applied: 'empty', why: '' },
  verified: false,
  moved: 0,
  suspect: false,
  volumes: {},
  waitsFor: null,
  error: null,
  warnings: [],
};

/** Every text that differs from a whole one in one place, as a torn write, another program or another version leaves it. */
function variants(text: string): readonly string[] {
  const plain = JSON.parse(text) as Record<string, unknown>;
  const found: string[] = [];
  for (let at = 0; at < text.trimEnd().length; at++) found.push(text.slice(0, at));
  for (const name of Object.keys(plain)) {
    const { [name]: _, ...without } = plain;
    found.push(JSON.stringify(without));
    for (const value of [null, 0, -1, 1.5, '', 'x', [], {}, true])
      found.push(JSON.stringify({ ...plain, [name]: value }));
  }
  return found;
}

describe('a marker', () => {
  test('is read as it was written', () => {
    expect(parseMarker(printMarker(marker))).toEqual(marker);
  });

  test('with a part of it missing, torn or of another type is none, or is a whole one', () => {
    for (const text of variants(printMarker(marker))) {
      const parsed = parseMarker(text);
      if (parsed !== undefined) expect(parseMarker(printMarker(parsed)), text).toEqual(parsed);
    }
    const none = variants(printMarker(marker)).filter((text) => parseMarker(text) === undefined);
    expect(none.length).toBeGreaterThan(500);
  });

  test.each(['null', '[]', '"done"', '{}', '{"version":0}', '{"version":"1"}', '{"version":1}'])(
    '%s is none',
    (text) => {
      expect(parseMarker(text)).toBeUndefined();
    },
  );

  test('of a newer Holdfast is not taken for none: what that has decided must not be forgotten', () => {
    const newer = JSON.stringify({ ...JSON.parse(printMarker(marker)), version: 2, phase: 'paused' });
    expect(() => parseMarker(newer)).toThrow(expect.objectContaining({ code: 'E_FORMAT_NEWER' }));
  });

  test('is none, or newer, whatever stands there', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        try {
          return parseMarker(text) === undefined;
        } catch (error) {
          return (error as { code?: string }).code === 'E_FORMAT_NEWER';
        }
      }),
      runs(300),
    );
  });
});

describe('a receipt', () => {
  test('is read as it was written, on one line', () => {
    expect(parseReceipt(printReceipt(receipt))).toEqual(receipt);
    expect(printReceipt(receipt).trimEnd()).not.toContain('\n');
  });

  test('that is torn, older or something else is none; a newer one says so', () => {
    const text = printReceipt(receipt);
    for (let at = 0; at < text.trimEnd().length; at++) expect(parseReceipt(text.slice(0, at))).toBeUndefined();
    for (const other of ['null', '[]', '{}', JSON.stringify({ ...receipt, version: 0 })]) {
      expect(parseReceipt(other)).toBeUndefined();
    }
    const newer = JSON.stringify({ ...receipt, version: 2 });
    expect(() => parseReceipt(newer)).toThrow(expect.objectContaining({ code: 'E_FORMAT_NEWER' }));
  });
});
