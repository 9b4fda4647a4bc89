/** Waiting, bounded, for the predecessor's final checkpoint: what it seals is not lost. */
import type { ReceiptHandoff } from '../../contract/receipt.ts';
import type { LineageLog } from '../../engine/lineage/log.ts';
import type { HolderId } from '../../engine/model/ids.ts';
import type { Clock } from '../../engine/ports/clock.ts';
import type { Liveness } from '../../engine/ports/liveness.ts';
import type { RehydrateEvent } from './rehydrate-ports.ts';

export interface HandoffOptions {
  readonly log: LineageLog;
  readonly me: HolderId;
  readonly waitMsMax: number;
  readonly liveness: Liveness;
  readonly clock: Clock;
  readonly onEvent: (event: RehydrateEvent) => void;
  readonly signal: AbortSignal;
}

const lookMsMin = 200;
const lookMsMax = 2000;
/** Whether a pod is gone is asked of a service that others ask too. */
const askMs = 2000;

/** Undefined when there is nobody to wait for: the log is empty, sealed, or the newest holder is this one. E_STORE_*, E_ABORTED. */
export async function waitForSeal(options: HandoffOptions): Promise<ReceiptHandoff | undefined> {
  const { log, me, waitMsMax, liveness, clock, onEvent, signal } = options;
  const startedMs = clock.monotonicMs();
  let predecessor: string | undefined;
  let askedMs = Number.NEGATIVE_INFINITY;
  for (let round = 0; ; round++) {
    const { record } = await log.head({ signal });
    const ms = clock.monotonicMs() - startedMs;
    const ended = (outcome: ReceiptHandoff['outcome']): ReceiptHandoff | undefined =>
      predecessor === undefined ? undefined : { predecessor, seconds: Math.round(ms) / 1000, outcome };
    if (record === undefined || record.header.kind === 'SEAL' || record.header.holder === me) return ended('sealed');
    const { holder, holderName } = record.header;
    predecessor = holderName || holder;
    if (clock.monotonicMs() - askedMs >= askMs) {
      // After its record was read: an older answer would not count.
      askedMs = clock.monotonicMs();
      if ((await liveness.isGone(holder, { name: holderName, signal })) === 'gone') return ended('gone');
    }
    if (ms >= waitMsMax) return ended('timeout');
    if (round === 0) {
      onEvent({
        event: 'rehydrate.handoff',
        message: `waiting up to ${waitMsMax / 1000} s for the final checkpoint of ${predecessor}`,
        details: { predecessor, holder, slot: record.header.slot },
      });
    }
    await clock.wait(Math.min(lookMsMin * 1.5 ** round, lookMsMax, waitMsMax - ms), { signal });
  }
}

export interface SlotWaitOptions extends Pick<HandoffOptions, 'waitMsMax' | 'clock' | 'onEvent' | 'signal'> {
  /** Who holds the slot that was picked; undefined: it is free. */
  readonly holder: () => string | undefined;
  /** Picks again. */
  readonly look: () => Promise<void>;
}

/** All replica slots are held: waits until one is free. Undefined when one was from the beginning. */
export async function waitForSlot(options: SlotWaitOptions): Promise<ReceiptHandoff | undefined> {
  const { waitMsMax, clock, onEvent, signal, holder, look } = options;
  const startedMs = clock.monotonicMs();
  let predecessor: string | undefined;
  for (let round = 0; ; round++) {
    const ms = clock.monotonicMs() - startedMs;
    const met = holder();
    if (met === undefined || ms >= waitMsMax) {
      predecessor = met ?? predecessor;
      if (predecessor === undefined) return undefined;
      return { predecessor, seconds: Math.round(ms) / 1000, outcome: met === undefined ? 'sealed' : 'timeout' };
    }
    if (round === 0) {
      onEvent({
        event: 'rehydrate.handoff',
        message: `waiting up to ${waitMsMax / 1000} s for a free replica slot; the first to be taken is that of ${met}`,
        details: { predecessor: met },
      });
    }
    predecessor = met;
    await clock.wait(Math.min(lookMsMin * 1.5 ** round, lookMsMax, waitMsMax - ms), { signal });
    await look();
  }
}
