/**
 * What a holder knows of itself on one lineage, kept privately and outside the repository. It is written *before* each
 * attempt to create a record, so that whatever a killed process still had in flight is recognised as its own.
 */
import type { HolderId, RecordId, Slot } from '../model/ids.ts';

export interface HolderClaim {
  readonly slot: Slot;
  /** Record id of the CLAIM. */
  readonly id: RecordId;
}

export interface HolderState {
  readonly holder: HolderId;
  /** Attempted CLAIMs, ascending; some may never have landed. */
  readonly claims: readonly HolderClaim[];
  /** The last slot a record was sent to, and the ids of the attempts there, oldest first. */
  readonly last: { readonly slot: Slot; readonly ids: readonly RecordId[] } | undefined;
  /** The volumes were restored from this slot since the last claim, so they contain everything committed up to it; 0: they were not. */
  readonly includes: Slot;
}

export interface HolderStore {
  /** The state; a holder that never was here before gets its identity now, durably. E_STATE_DIR when that fails. */
  load(): Promise<HolderState>;
  /** Durable when it resolves: it survives a power cut. E_STATE_DIR when that fails. */
  save(state: HolderState): Promise<void>;
}
