/**
 * The init container: a pod's volumes get back what its predecessor had, before the application starts.
 *
 * It looks at what stands there; opens the log; waits, bounded, for the predecessor's SEAL; restores without a claim, so that the
 * predecessor stays protected as long as possible; claims; applies the difference when a newer checkpoint came meanwhile; and
 * lists once more. Only then may the application start, so no checkpoint can be committed that it never sees. Each part of that order
 * is needed: test/model/rehydrate.ts explores it and test/model/init-container.ts the marker, with each part left out once.
 *
 * Invariants: the marker says `started`, durably, before the first byte, and `done` after the last look at the log; what a marker
 * says is done is never touched; what stands there without a marker is never written over; when data is missing, a policy
 * decides, and the receipt says which and why.
 */
import type { RestoreReceipt } from '../../contract/receipt.ts';
import { isHoldfastError } from '../../engine/model/errors.ts';
import { chooseBasis } from './choose-basis.ts';
import { applyDifference, claimInTurn, lookOnceMore, noteSuperseded, SlotLost } from './claim-in-turn.ts';
import { meetNoData } from './meet-no-data.ts';
import { openLineage, waitForHandoff } from './open-lineage.ts';
import type { ContainerPorts, ContainerSettings } from './rehydrate-ports.ts';
import { type Plan, RehydrateRun } from './rehydrate-run.ts';
import { fail, finish, leaveAlone } from './run-receipt.ts';
import { beginUnclaimed, writeVolumes } from './write-volumes.ts';

/**
 * The receipt, which also stands in the state directory. Throws HoldfastError: E_BLOCKED when a policy's deadline has passed; E_LINEAGE_HELD,
 * E_DIVERGED; E_TARGET_NOT_EMPTY, E_TARGET_FULL, E_TARGET_IO; E_KEY_*, E_ENCRYPTION_MISMATCH, E_FORMAT_NEWER, E_STATE_DIR, E_ABORTED.
 * After an error the same call goes on from what was done; `onReceipt` has then been told of it.
 */
export async function runRehydrate(
  ports: ContainerPorts,
  settings: ContainerSettings,
  options: { readonly signal: AbortSignal; readonly onReceipt: (receipt: RestoreReceipt) => Promise<void> },
): Promise<RestoreReceipt> {
  await using run = await RehydrateRun.begin(ports, settings, options);
  try {
    if (run.everythingLives) return await leaveAlone(run);
    let plan: Plan = { kind: 'newest' };
    for (;;) {
      try {
        await bringBack(run, plan);
        return await finish(run);
      } catch (error) {
        const superseded = isHoldfastError(error, 'E_FENCED') || error instanceof SlotLost;
        if (superseded) await noteSuperseded(run, error);
        plan = superseded ? { kind: 'newest' } : await meetNoData(run, error, plan);
      }
    }
  } catch (error) {
    throw await fail(run, error);
  }
}

async function bringBack(run: RehydrateRun, plan: Plan): Promise<void> {
  if (plan.kind === 'empty' && plan.why === 'unreachable') {
    await beginUnclaimed(run);
    return;
  }
  const lineage = await waitForHandoff(run, await openLineage(run));
  const basis = await chooseBasis(run, lineage, plan);
  await writeVolumes(run, lineage, basis);
  // Of a seed, all begin from it and none writes it.
  if (!run.writes) return;
  await using claim = await claimInTurn(run, lineage, basis);
  await applyDifference(run, lineage, basis, claim);
  await lookOnceMore(run, claim);
}
