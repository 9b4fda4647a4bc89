/**
 * Creates objects until it is killed, several at a time, small ones at once and large ones in parts, each with the content
 * that follows from its key. Prints the key and the size of each object after the store has said that it exists.
 */
import { writeSync } from 'node:fs';
import { openStore } from '../../../../src/edge/store/open-store.ts';
import { contentOf } from '../content.ts';

const [root, run] = process.argv.slice(2);
const store = await openStore(`file:${root}`, 'write');
writeSync(1, 'ready\n');

await Promise.all(
  ['a', 'b', 'c', 'd'].map(async (lane) => {
    for (let at = 0; ; at += 1) {
      const key = `v1/l/${run}/${lane}${at % 5}/${at}`;
      const bytes = (at * 7919) % (at % 3 === 0 ? 2_000_000 : 5000);
      const content = contentOf(key, bytes);
      if (at % 3 !== 0) {
        await store.create(key, content);
      } else {
        const upload = await store.beginUpload(key);
        for (let done = 0; done < bytes; done += 100_000) await upload.append(content.subarray(done, done + 100_000));
        await upload.commit();
      }
      // Synchronous, so that what has been acknowledged is out before anything else happens.
      writeSync(1, `${key} ${bytes}\n`);
    }
  }),
);
