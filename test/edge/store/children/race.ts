/**
 * One of several processes that race for the same objects. For each line `key bytes` on its input it creates that object
 * with its own content and prints the outcome.
 */
import { createInterface } from 'node:readline';
import { openStore } from '../../../../src/edge/store/open-store.ts';

const [root, name] = process.argv.slice(2);
await using store = await openStore(`file:${root}`, 'write');
process.stdout.write('ready\n');
for await (const key of createInterface({ input: process.stdin })) {
  process.stdout.write(`${await store.create(key, new TextEncoder().encode(`${name} made ${key}`))}\n`);
}
