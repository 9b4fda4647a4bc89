import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openStore, parseStoreAddress } from '../../../src/edge/store/open-store.ts';

test.each([
  ['file:/srv/cp', '/srv/cp'],
  ['file:cp', '/base/cp'],
  ['file:./cp/', '/base/cp'],
  ['file:../cp', '/cp'],
  ['file:/srv//a/../cp', '/srv/cp'],
  ['FILE:/srv/cp', '/srv/cp'],
  ['file:///srv/cp', '/srv/cp'],
  ['file://localhost/srv/cp', '/srv/cp'],
  ['file:///srv/a%20b', '/srv/a b'],
  ['file:/srv/a%20b', '/srv/a%20b'],
  ['file:/srv/a?b#c', '/srv/a?b#c'],
  ['file:./~', '/base/~'],
  ['file:a:b', '/base/a:b'],
])('%s is the directory %s', (address, path) => {
  expect(parseStoreAddress(address, '/base')).toEqual({ kind: 'directory', path });
});

test.each([
  ['', 'such as file:/path/to/store'],
  ['/srv/cp', 'such as file:/srv/cp'],
  ['cp', 'such as file:cp'],
  ['file:', 'Write the path after the colon'],
  ['file://', 'Give the store a directory'],
  ['file:/', 'Give the store a directory'],
  ['file:..', 'Give the store a directory'],
  ['file://server/share', 'Mount a remote directory'],
  ['file:///a%00b', 'zero bytes'],
  ['file:///a%2Fb', 'Write a local path'],
  ['file:///a?b', 'Write a local path'],
  ['file:/a\0b', 'without zero bytes'],
  ['file:~', 'Write the whole path'],
  ['file:~/cp', 'Write the whole path'],
  ['S3:bucket', 'Write s3://BUCKET'],
  ['https://example.org/', 'such as file:/path/to/store'],
])('%j is refused with a remedy', (address, remedy) => {
  expect(() => parseStoreAddress(address, '/base')).toThrow(
    expect.objectContaining({ code: 'E_USAGE', remedy: expect.stringContaining(remedy) }),
  );
});

test('s3://bucket/prefix is a bucket', () => {
  expect(parseStoreAddress('s3://bucket/prefix', '/base', {})).toMatchObject({
    kind: 's3',
    settings: { bucket: 'bucket', prefix: 'prefix/' },
  });
});

test('opens with the power asked for, and makes a store only when asked', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'holdfast-open-'));
  try {
    const options = { workingDirectory: parent };
    await expect(openStore('file:cp', 'write', options)).rejects.toMatchObject({ code: 'E_STORE_UNREACHABLE' });
    expect(await readdir(parent)).toEqual([]);

    await using writer = await openStore('file:cp', 'write', { ...options, create: true });
    await writer.create('v1/a', new Uint8Array([1]));
    await using reader = await openStore(`file:${parent}/cp`, 'read');
    expect(await reader.get('v1/a', { bytesMax: 1 })).toEqual(new Uint8Array([1]));
    expect('create' in reader).toBe(false);
    await using sweeper = await openStore('file:cp', 'sweep', options);
    expect(await sweeper.delete('v1/a')).toBe(true);
    // @ts-expect-error a reader has no power to write, for the compiler too
    expect(reader.create).toBeUndefined();
  } finally {
    await rm(parent, { recursive: true });
  }
});

test('an address that is none is refused before anything is opened', async () => {
  await expect(openStore('s3:/bucket', 'read')).rejects.toMatchObject({ code: 'E_USAGE' });
});
