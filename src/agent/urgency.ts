/** Reasons for a checkpoint before its time. */
import type { CheckpointReason } from '../contract/agent-api.ts';
import { type AgentState, fillShareMax } from './state.ts';

/** Of the grace, as what may be needed for what is unsaved: the rate is an estimate, and the last pass comes on top. */
const graceShare = 0.5;
/** Where no capture has shown yet how fast content is saved. */
const bytesPerSecondUnknown: number = 8 * 1024 * 1024;
/** Of the objective: a capture takes time too. */
const objectiveShare = 0.8;

/**
 * Whether one is needed now: what is unsaved would not fit the grace any more, the objective would be missed before the schedule comes
 * to it, or a volume nears its limit with something unsaved in it.
 */
export function urgencyOf(state: AgentState): CheckpointReason | undefined {
  const { settings, rate, unsaved } = state;
  if (unsaved !== undefined && unsaved.files > 0) {
    const seconds = unsaved.bytes / (rate.bytesPerSecond ?? bytesPerSecondUnknown);
    if (seconds * 1000 > settings.graceMs * graceShare) return 'grace';
    if (state.fills.some(({ bytes, limitBytes }) => bytes > limitBytes * fillShareMax)) return 'fill';
  }
  return state.untilObjectiveMs(objectiveShare) <= 0 ? 'objective' : undefined;
}

/** Until the objective asks for a checkpoint, whatever the schedule says; ms. */
export function urgentInMs(state: AgentState): number {
  return Math.max(0, state.untilObjectiveMs(objectiveShare));
}
