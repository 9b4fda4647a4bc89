import { describe, expect, it } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import { createObject } from '../../../src/engine/lineage/create-object.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import type { CreateOutcome } from '../../../src/engine/ports/object-store.ts';
import { ManualClock } from '../../support/capture-fixture.ts';

const key = 'v1/l/00/a/log/ffffffffff';
const bytes = utf8Bytes('a record');

/** Takes nothing, but tells that there is nothing; each refusal comes after so long. */
class RefusingStore extends MemoryStore {
  readonly clock = new ManualClock();
  creates = 0;
  readonly patienceMs: number;

  constructor(patienceMs: number) {
    super();
    this.patienceMs = patienceMs;
  }

  override async create(): Promise<CreateOutcome> {
    this.creates++;
    this.clock.ms += this.patienceMs;
    throw new HoldfastError('E_STORE_UNREACHABLE', 'no answer');
  }
}

describe('an object whose creation stays unclear', () => {
  it('is sent again a few times where refusals come at once', async () => {
    const store = new RefusingStore(0);
    await expect(createObject({ store, clock: store.clock }, key, bytes, { bytesMax: 100 })).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
    });
    expect(store.creates).toBe(7);
  });

  it('is not sent again to a store that has been patient for minutes, which answers reads meanwhile', async () => {
    const store = new RefusingStore(300_000);
    await expect(createObject({ store, clock: store.clock }, key, bytes, { bytesMax: 100 })).rejects.toMatchObject({
      code: 'E_STORE_UNREACHABLE',
    });
    expect(store.creates).toBe(1);
  });
});
