import { expect, it } from 'vitest';
import type { Json, JsonObject } from '../../src/webhook/json.ts';
import { patched, type PatchOperation } from '../../src/webhook/json-patch.ts';
import { applyPatch } from '../support/json-patch.ts';
import { cases } from './cases.ts';
import { patchOf, responseOf } from './golden.ts';

it('makes of a pod what the RFC says, of every patch that the webhook answers', () => {
  let patches = 0;
  for (const { name, settings = {}, review } of cases) {
    const { object } = review['request'] as { readonly object: JsonObject };
    const patch = patchOf(responseOf(JSON.stringify(review), settings));
    if (patch.length > 0) patches++;
    expect(patched(object, patch as readonly PatchOperation[]), name).toEqual(applyPatch(object, patch));
  }
  expect(patches).toBeGreaterThan(20);
});

it.each<readonly [string, Json, readonly PatchOperation[], Json]>([
  ['a name with a slash', { a: {} }, [{ op: 'add', path: '/a/x~1y~0z', value: 1 }], { a: { 'x/y~z': 1 } }],
  ['the end of a list', [1], [{ op: 'add', path: '/-', value: 2 }], [1, 2]],
  ['the middle of a list', [1, 3], [{ op: 'add', path: '/1', value: 2 }], [1, 2, 3]],
  ['what is removed', { a: [1, 2] }, [{ op: 'remove', path: '/a/0' }], { a: [2] }],
  ['what is replaced', [{ a: 1 }], [{ op: 'replace', path: '/0/a', value: 2 }], [{ a: 2 }]],
])('%s', (_, document, patch, after) => {
  expect(patched(document, patch)).toEqual(after);
});
