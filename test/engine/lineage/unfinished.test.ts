import { describe, expect, it } from 'vitest';
import { packKey, toPackName } from '../../../src/engine/format/object-keys.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { checkpoint, MemoryHolder, World } from './fixture.ts';

describe('a claim', () => {
  /** The world's store tells these uploads; answers the names of those that were ended. */
  function leave(world: World, names: readonly string[], onEnd: () => Promise<void> = async () => {}): Set<string> {
    const ended = new Set<string>();
    world.store.unfinished = async () =>
      names.map((name) => ({
        key: name.includes('/') ? name : packKey(world.lineage, name),
        end: async () => {
          await onEnd();
          ended.add(name);
        },
      }));
    return ended;
  }
  const pack = (slot: number, epoch: number): string => toPackName({ slot, epoch, pack: 0, salt8: '01234567' });

  it('ends uploads of earlier epochs and of its own up to the next slot, and no others', async () => {
    const world = await World.make();
    const holder = new MemoryHolder('a');
    const first = await world.claim(holder);
    await checkpoint(first);
    await first.seal();
    const useless = [pack(2, 1), pack(9, 1), pack(4, 4), pack(5, 4)];
    const others = [
      pack(6, 4),
      pack(6, 6),
      'v1/l/00/other/pk/2-1-0-01234567',
      `${packKey(world.lineage, pack(2, 1))}x`,
    ];
    const ended = leave(world, [...useless, ...others]);
    const second = await world.claim(new MemoryHolder('b'));
    expect(second).toMatchObject({ epoch: 4, slot: 5 });
    expect([...ended]).toEqual(useless);
  });

  it('succeeds where uploads cannot be listed or ended', async () => {
    const world = await World.make();
    const failing = async (): Promise<never> => {
      throw new HoldfastError('E_STORE_READ_ONLY', 'not allowed');
    };
    leave(world, [pack(1, 1)], failing);
    expect(await world.claim(new MemoryHolder('a'))).toMatchObject({ epoch: 1 });
    world.store.unfinished = failing;
    expect(await world.claim(new MemoryHolder('a'))).toMatchObject({ epoch: 1 });
  });

  it('that is refused ends nothing', async () => {
    const world = await World.make();
    await checkpoint(await world.claim(new MemoryHolder('a')));
    const ended = leave(world, [pack(2, 1)]);
    await expect(world.claim(new MemoryHolder('b'), { policy: 'person' })).rejects.toMatchObject({
      code: 'E_LINEAGE_HELD',
    });
    expect(ended.size).toBe(0);
  });
});
