import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BytePace } from '../../src/edge/store/byte-pace.ts';
import { openDirectorySweeper, openDirectoryWriter } from '../../src/edge/store/directory-store.ts';
import { systemClock } from '../../src/edge/host/system-clock.ts';
import { LimitedWriter } from '../../src/edge/store/limited-store.ts';
import { MemoryStore } from '../../src/edge/store/memory-store.ts';
import { ObservedSweeper, ObservedWriter, StoreTraffic } from '../../src/edge/store/observed-store.ts';
import { describeObjectStore, type Opened } from './object-store-suite.ts';

const adapters: Readonly<Record<string, () => Promise<Opened>>> = {
  memory: async () => {
    const store = new MemoryStore();
    return { writer: store, sweeper: store, close: async () => {} };
  },
  directory: openDirectory,
  'directory, observed': async () => {
    const { writer, sweeper, close } = await openDirectory();
    const traffic = new StoreTraffic();
    return { writer: new ObservedWriter(writer, traffic), sweeper: new ObservedSweeper(sweeper, traffic), close };
  },
  'directory, limited': async () => {
    const { writer, sweeper, close } = await openDirectory();
    const pace = (): BytePace => new BytePace({ clock: systemClock, bytesPerSecond: 2 ** 30 });
    return { writer: new LimitedWriter(writer, { upload: pace(), download: pace() }), sweeper, close };
  },
};

for (const [name, open] of Object.entries(adapters)) describeObjectStore(name, open);

async function openDirectory(): Promise<Opened> {
  const root = await mkdtemp(join(tmpdir(), 'holdfast-store-'));
  const writer = await openDirectoryWriter(root);
  const sweeper = await openDirectorySweeper(root);
  const close = async () => {
    await writer.close();
    await sweeper.close();
    await rm(root, { recursive: true });
  };
  return { writer, sweeper, close };
}
