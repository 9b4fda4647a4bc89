import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../../src/edge/host/system-clock.ts';
import { systemRandom } from '../../../../src/edge/host/system-random.ts';
import { proveCreateOnly } from '../../../../src/engine/lineage/prove-create-only.ts';
import { findServers, type S3Server, startServer } from '../../../servers/s3-server.ts';
import { openS3 } from '../../../servers/s3-store-of.ts';

const names = findServers();

let server: S3Server | undefined;
afterEach(async () => {
  await server?.[Symbol.asyncDispose]();
  server = undefined;
});

describe.each(names)('%s', (name) => {
  const honest = name !== 's3rver';

  test(honest ? 'is proved to be create-only' : 'ignores the condition, and is refused', async () => {
    server = await startServer(name);
    const { writer, close } = await openS3(server);
    try {
      const proof = proveCreateOnly({ store: writer, random: systemRandom, clock: systemClock });
      if (honest) {
        await proof;
        const left = await writer.list('v1/probe/');
        expect(left.map(({ key }) => key.split('/').at(-1))).toEqual(['race', 'twice', 'verdict']);
        const verdict = await writer.get(left[2]!.key, { bytesMax: 1000 });
        expect(JSON.parse(new TextDecoder().decode(verdict))).toMatchObject({ createOnly: true, racers: 8 });
      } else {
        await expect(proof).rejects.toMatchObject({
          code: 'E_UNFENCED',
          details: { seen: 'an object was overwritten by a write that was to create it' },
        });
        // Nothing of a repository has been made in it.
        expect(await writer.list('v1/l/')).toEqual([]);
      }
    } finally {
      await close();
    }
  });
});
