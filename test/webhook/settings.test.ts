import { expect, it } from 'vitest';
import { mayUse, parseSettings } from '../../src/webhook/settings.ts';
import { someSettings, settingsOf } from './pods.ts';

it.each<readonly [string, object, RegExp]>([
  ['no cluster', { cluster: undefined }, /cluster is not a string/],
  ['a cluster with a slash', { cluster: 'a/b' }, /cluster is not a name/],
  ['a setting that does not exist', { imagePulPolicy: 'Always' }, /imagePulPolicy is not a setting that exists/],
  ['a policy of pulling', { imagePullPolicy: 'Sometimes' }, /one of Always, IfNotPresent, Never/],
  ['no store', { stores: {} }, /stores is not an object with one store or more/],
  ['a store without namespaces', { stores: { a: { address: 's3://b' } } }, /stores\.a\.namespaces/],
  [
    'a store with a pattern of another kind',
    { stores: { a: { address: 's3://b', namespaces: ['team-(a|b)'] } } },
    /namespaces/,
  ],
  ['a store that is no address', { stores: { a: { address: 'b', namespaces: ['*'] } } }, /stores\.a\.address/],
  ['a directory without a claim', { stores: { a: { address: 'file:/b', namespaces: ['*'] } } }, /stores\.a\.claim/],
  ['a claim for a bucket', { stores: { a: { address: 's3://b', namespaces: ['*'], claim: 'c' } } }, /stores\.a\.claim/],
  ['an annotation that does not exist', { defaults: { shedule: '1s' } }, /defaults: holdfast\.dev\/shedule/],
  ['an annotation with a wrong value', { namespaces: { x: { schedule: 'often' } } }, /namespaces\.x: .*not a duration/],
  ['an annotation that counts on a pod only', { defaults: { inject: 'true' } }, /counts on a pod only/],
  [
    'a policy with a policy',
    { policies: { a: { namespaces: ['*'], annotations: { policy: 'b' } } } },
    /free of `policy`/,
  ],
  ['a CA that is none', { service: { url: 'https://x', ca: 'secret' } }, /service\.ca is not one or more certificates/],
  ['a service without an address', { service: { audience: 'x' } }, /service\.url/],
])('refuses %s', (_, more, message) => {
  expect(() => parseSettings(JSON.stringify({ ...someSettings, ...more }))).toThrow(message);
});

it('refuses what is not JSON', () => {
  expect(() => parseSettings('cluster: prod')).toThrow(/not JSON/);
  expect(() => parseSettings('[]')).toThrow(/is not an object/);
});

it('are frozen, with what is built in', () => {
  const settings = settingsOf();
  expect(Object.isFrozen(settings)).toBe(true);
  expect(settings).toMatchObject({ unknownUser: 'root', hostNetwork: 'refuse', imageOverride: false });
  expect(settings.stores.get('default')).toMatchObject({ encrypted: true, claim: undefined });
});

it('a pattern of namespaces holds whole names', () => {
  expect(mayUse(['team-a', 'b-*'], 'team-a')).toBe(true);
  expect(mayUse(['team-a', 'b-*'], 'b-1')).toBe(true);
  expect(mayUse(['team-a', 'b-*'], 'team-ab')).toBe(false);
  expect(mayUse(['team-a', 'b-*'], 'x-b-1')).toBe(false);
  expect(mayUse(['*'], '')).toBe(true);
});
