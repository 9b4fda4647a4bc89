import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../src/edge/store/memory-store.ts';
import type { ApplicationPause } from '../../../src/engine/capture/capture-request.ts';
import { ManualClock, Pod } from '../../support/capture-fixture.ts';
import { MemoryFileSystem, MemoryFileTree } from '../../support/memory-file-tree.ts';

async function onDisk(): Promise<{ clock: ManualClock; disk: MemoryFileSystem; files: MemoryFileTree; pod: Pod }> {
  const clock = new ManualClock();
  const disk = new MemoryFileSystem({ clock });
  const files = new MemoryFileTree(disk);
  const pod = await Pod.start({ files, clock, store: new MemoryStore() });
  disk.writeFile('data', 'content');
  clock.ms += 60_000;
  return { clock, disk, files, pod };
}

/** An application that writes at every list of the volume, unless it holds still. */
function writing(
  disk: MemoryFileSystem,
  files: MemoryFileTree,
  answer = true,
): { readonly application: ApplicationPause; readonly calls: string[] } {
  const calls: string[] = [];
  let still = false;
  let count = 0;
  files.beforeCall = (call) => {
    if (call.operation === 'list' && !still) disk.writeFile('data', `content ${count++}`);
  };
  return {
    calls,
    application: {
      async pause() {
        calls.push('pause');
        still = answer;
        return answer;
      },
      async resume() {
        calls.push('resume');
        still = false;
      },
    },
  };
}

describe('an application that holds still for its checkpoint', () => {
  test('makes it quiesced, though it never pauses by itself and keeps its files open', async () => {
    const { disk, files, pod } = await onDisk();
    disk.openForWriting('data');
    const { application, calls } = writing(disk, files);
    const outcome = await pod.capture({ application });
    expect(outcome).toMatchObject({ consistency: 'quiesced', refuted: undefined });
    expect(calls).toEqual(['pause', 'resume']);
    const without = await pod.capture({ extraPassesMax: 2 });
    expect(without.consistency).toBe('fuzzy');
  });

  test('is let go before anything is committed', async () => {
    const { disk, files, pod } = await onDisk();
    const { application, calls } = writing(disk, files);
    const writer = await pod.writer();
    const commit = writer.commit.bind(writer);
    writer.commit = async (request) => {
      calls.push('commit');
      return await commit(request);
    };
    await pod.capture({ application });
    expect(calls).toEqual(['pause', 'resume', 'commit']);
  });

  test('is not asked where nothing has changed', async () => {
    const { disk, files, pod } = await onDisk();
    await pod.capture();
    const { application, calls } = writing(disk, files);
    files.beforeCall = undefined;
    expect(await pod.capture({ application, commitUnchanged: false })).toMatchObject({ committed: undefined });
    expect(calls).toEqual([]);
  });

  test('that does not answer is not believed to hold still', async () => {
    const { disk, files, pod } = await onDisk();
    const { application, calls } = writing(disk, files, false);
    expect(await pod.capture({ application })).toMatchObject({ consistency: 'fuzzy' });
    expect(calls).toEqual(['pause', 'resume']);
  });

  test('is let go when the capture fails', async () => {
    const { disk, files, pod } = await onDisk();
    const { application, calls } = writing(disk, files);
    const interrupt = new AbortController();
    const failing: ApplicationPause = {
      async pause() {
        const held = await application.pause();
        interrupt.abort();
        return held;
      },
      resume: () => application.resume(),
    };
    await expect(pod.capture({ application: failing, signal: interrupt.signal })).rejects.toMatchObject({
      code: 'E_ABORTED',
    });
    expect(calls).toEqual(['pause', 'resume']);
    expect(files.openDescriptors).toEqual([]);
  });
});
