/** Writing the volumes: whether it fits, the marker, and then the first byte. */
import { recordIdText, toSlot } from '../../engine/model/ids.ts';
import { isHoldfastError } from '../../engine/model/errors.ts';
import { FileTreeError } from '../../engine/ports/file-tree.ts';
import { rehydrate } from '../../engine/rehydrate/rehydrate.ts';
import { restoreDefaults } from '../../engine/rehydrate/rehydrate-request.ts';
import { clearContent } from '../../engine/rehydrate/target-content.ts';
import { targetError } from '../../engine/rehydrate/target-error.ts';
import type { Basis, OpenedLog, RehydrateRun } from './rehydrate-run.ts';
import { forgetGoingBack } from './restore-at.ts';
import { assertRoom } from './room.ts';
import type { SurveyedVolume } from './survey.ts';

/** Without a claim. Before the first byte: does it fit, and the marker. */
export async function writeVolumes(
  run: RehydrateRun,
  { store, repository }: OpenedLog,
  { source }: Basis,
): Promise<void> {
  const { signal } = run;
  const ports = run.ports;
  const names = source?.body.volumes.map(({ name }) => name) ?? [];
  const why = run.policy.answer === 'data' || run.policy.answer === 'live' ? 'first-boot' : run.policy.answer;
  for (const volume of run.targets) {
    const checkpoint = source?.body.volumes.find(({ name }) => name === volume.name);
    if (source !== undefined && checkpoint !== undefined) {
      const stored = source.packs.reduce((sum, { plainBytes }) => sum + plainBytes, 0);
      const written = run.origins.has(volume.name) || volume.state === 'unfinished';
      if (!assertRoom(volume, checkpoint, stored, written ? undefined : ports.freeBytes(volume.path))) {
        run.warn(`volume ${volume.name} may not fit: its files are larger than its limit, and mostly holes`);
      }
    }
  }
  const before = new Map(run.origins);
  for (const volume of run.targets) {
    const restored = names.includes(volume.name) && source !== undefined;
    run.origins.set(
      volume.name,
      restored
        ? { kind: 'checkpoint', slot: source.record.header.slot, id: recordIdText(source.record.header.id) }
        : { kind: 'empty', why },
    );
    if (source !== undefined && !restored) {
      run.warn(`checkpoint ${source.record.header.slot} has no volume ${volume.name}: it begins empty`);
    }
  }
  await run.mark('started');
  for (const volume of run.targets) {
    const mine = before.has(volume.name) || volume.state === 'unfinished';
    if (mine && run.origins.get(volume.name)?.kind === 'empty') clear(run, volume);
  }
  run.source = source;
  run.restored.clear();
  const targets = run.targets.filter(({ name }) => names.includes(name));
  if (source === undefined || targets.length === 0) return;
  const { slot, timeMs } = source.record.header;
  ports.onEvent({
    event: 'rehydrate.restore',
    message: `restoring checkpoint ${slot} of ${source.lineage}`,
    details: { slot, ageSeconds: Math.round((run.startedAtMs - timeMs) / 1000) },
  });
  const lineage = run.lineage;
  // A fork's own log says nothing of what another holds up to there.
  const included = run.origin === lineage ? slot : toSlot(0);
  const restore = async (onExisting: 'refuse' | 'replace'): Promise<void> => {
    const outcome = await rehydrate(
      {
        files: ports.files,
        store,
        compressor: ports.compressor,
        clock: ports.clock,
        random: ports.random,
        lanes: ports.lanes,
        cache: await ports.openCache(repository.id, lineage),
      },
      source,
      {
        ...restoreDefaults,
        targets: await Promise.all(
          targets.map(async ({ name, path }) => ({
            volume: name,
            path,
            marker: await ports.openMarker(repository.id, lineage, path, included),
          })),
        ),
        first: run.settings.first,
        onExisting,
        laneCount: run.settings.laneCount,
        inFlightBytes: run.settings.inFlightBytes,
      },
      { signal, onProgress: ports.onProgress },
    );
    for (const volume of outcome.volumes) run.restored.set(volume.name, volume);
  };
  try {
    await restore('refuse');
  } catch (error) {
    // No application has seen what an earlier attempt of this pod has left, so it may go.
    if (!isHoldfastError(error, 'E_TARGET_NOT_EMPTY')) throw error;
    const foreign = targets.some(({ name, state }) => state !== 'unfinished' && !before.has(name));
    if (foreign) throw error;
    await restore('replace');
  }
  // The store has given all of it: a later outage is another one.
  run.sinceMs.delete('unreachable');
}

/** The store cannot be reached, and a policy says to begin all the same; the agent claims when it can. */
export async function beginUnclaimed(run: RehydrateRun): Promise<void> {
  const whole = run.source !== undefined && run.targets.every(({ name }) => run.restored.has(name));
  // What is there then may be less than what was stored.
  run.suspect = true;
  if (whole) {
    run.warn('restored, and not claimed: the store cannot be reached any more');
    return;
  }
  forgetGoingBack(run);
  for (const volume of run.targets) {
    if (volume.state === 'found') run.origins.set(volume.name, { kind: 'kept' });
    else run.origins.set(volume.name, { kind: 'empty', why: 'unreachable' });
  }
  await run.mark('started');
  for (const volume of run.targets) clear(run, volume);
  run.source = undefined;
  run.restored.clear();
}

function clear(run: RehydrateRun, { path }: SurveyedVolume): void {
  const { files } = run.ports;
  try {
    const root = files.makeRoot(path);
    try {
      clearContent(files, root);
    } finally {
      files.close(root);
    }
  } catch (error) {
    throw error instanceof FileTreeError ? targetError(error, undefined) : error;
  }
}
