/**
 * Becoming the writer of the lineage: connect to the store, claim, and prove that the store still refuses to overwrite. None of it
 * ends the agent for what may pass: a store that does not answer and a lineage that somebody else may still hold are waited for.
 */
import { markerFile, parseMarker, type RehydrateMarker } from '../contract/state-directory.ts';
import { claimLineage, noteRestored } from '../engine/lineage/claim.ts';
import type { LineageWriter } from '../engine/lineage/lineage-writer.ts';
import { proveOnClaim } from '../engine/lineage/prove-create-only.ts';
import { type ErrorCode, HoldfastError, isHoldfastError } from '../engine/model/errors.ts';
import type { Liveness } from '../engine/ports/liveness.ts';
import { type AgentLog, errorFields } from './log.ts';
import type { AgentParts, Connection } from './parts.ts';
import type { AgentState } from './state.ts';

/**
 * What may pass without anybody touching the pod: a network, a full bucket, a Secret that is renewed, a repository that is not
 * mounted yet. Settings that are wrong end the process, where its restarts show it.
 */
const mayPass: readonly ErrorCode[] = [
  'E_STORE_UNREACHABLE',
  'E_STORE_IO',
  'E_STORE_FULL',
  'E_STORE_READ_ONLY',
  'E_STORE_CREDENTIALS',
  'E_REPOSITORY_MISSING',
  'E_LIMIT',
];

const restoreLookMs = 1000;
const waitMsMin = 500;
const waitMsMax = 30_000;
/** How often a lineage that another holds is looked at: one LIST each. */
const heldMs = 30_000;

export interface Attached extends AsyncDisposable {
  readonly connection: Connection;
  readonly writer: LineageWriter;
  /** What the pod began with may be less than there was: its first checkpoint must not become the default restore point by itself. */
  readonly restoredSuspect: boolean;
}

export interface AttachParts {
  readonly parts: AgentParts;
  readonly state: AgentState;
  readonly log: AgentLog;
  readonly liveness: Liveness;
  /** Sleeps so long, or less when something happens that has to be looked at. */
  readonly sleep: (ms: number) => Promise<void>;
  readonly signal: AbortSignal;
}

/**
 * The writer, as soon as there can be one. Throws what no waiting cures: E_KEY_*, E_ENCRYPTION_MISMATCH, E_UNFENCED, E_DIVERGED,
 * E_STATE_DIR, E_USAGE, …; E_ABORTED when the signal ends it.
 */
export async function attach(options: AttachParts): Promise<Attached> {
  const marker = await restored(options);
  const connection = await connect(options);
  try {
    const writer = await claim(options, connection);
    return {
      connection,
      writer,
      restoredSuspect: marker?.suspect ?? false,
      [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
    };
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
}

/** What the init container says of the volumes, once it has done its work: a checkpoint of half a restore must not become the newest. */
async function restored({ parts, state, log, sleep }: AttachParts): Promise<RehydrateMarker | undefined> {
  for (let said = false; ; said = true) {
    const text = await parts.files.read(markerFile);
    const marker = text === undefined ? undefined : parseMarker(text);
    // That of another pod, whose directory this was, says nothing.
    if (marker === undefined || marker.podUid !== state.settings.podUid) return undefined;
    if (marker.phase === 'done') {
      state.resolve('restore');
      return marker;
    }
    const message = 'the restore of this pod is not complete';
    state.problem('restore', { code: 'W_RESTORING', message });
    if (!said) log.warn('restore-waiting', { code: 'W_RESTORING', message });
    throwIfEnding(parts.terminated);
    await sleep(restoreLookMs);
  }
}

async function connect({ parts, state, log, sleep, signal }: AttachParts): Promise<Connection> {
  let said = '';
  const wait = (reason: string, error: HoldfastError): void => {
    if (said !== reason || state.storeReachable) log.warn('store-waiting', errorFields(error));
    said = reason;
    state.storeReachable = false;
    state.problem('store', error);
  };
  for (let failures = 0; ; failures++) {
    try {
      const connection = await parts.connect({
        signal,
        onWaiting: ({ reason, failingMs }) =>
          wait(
            reason,
            new HoldfastError(
              'E_STORE_UNREACHABLE',
              `the store fails for ${Math.round(failingMs / 1000)} s: ${reason}`,
            ),
          ),
        onHeldBack: (ms) => {
          state.counts.heldBackSeconds += ms / 1000;
        },
        onCacheFailure: (error) => {
          // As long as it lasts, each capture tries and fails.
          if (!state.problems.some(({ code }) => code === 'W_CACHE')) log.warn('cache', errorFields(error));
          state.problem('cache', { code: 'W_CACHE', message: error.message });
        },
      });
      state.storeReachable = true;
      state.resolve('store');
      return connection;
    } catch (error) {
      if (!isHoldfastError(error, ...mayPass)) throw error;
      wait(error.code, error);
      await sleep(jittered(parts, Math.min(waitMsMax, waitMsMin * 2 ** failures)));
      throwIfEnding(signal);
    }
  }
}

async function claim(
  { parts, state, log, liveness, sleep, signal }: AttachParts,
  connection: Connection,
): Promise<LineageWriter> {
  const { capture, access, holder, restoredSlot, unfenced } = connection;
  const { store } = capture;
  const { lineage } = state.settings;
  let said = false;
  for (let failures = 0; ; failures++) {
    try {
      if (restoredSlot > 0) await noteRestored(holder, restoredSlot);
      const claimsBefore = (await holder.load()).claims.length;
      const writer = await claimLineage({
        store,
        access,
        lineage,
        holder,
        holderName: parts.holderName,
        clock: parts.clock,
        random: parts.random,
        liveness,
        policy: 'pod',
        signal,
      });
      // Once for each claim: a server may have been changed since the repository was made.
      const isNew = (await holder.load()).claims.length !== claimsBefore;
      if (isNew && !unfenced) await proveOnClaim(store, lineage, writer.epoch, { signal });
      state.resolve('lineage');
      state.resolve('store');
      state.storeReachable = true;
      state.found(writer.base);
      log.info('claimed', { epoch: writer.epoch, new: isNew, newestSlot: writer.base?.record.header.slot ?? null });
      return writer;
    } catch (error) {
      if (isHoldfastError(error, 'E_LINEAGE_HELD', 'E_FENCED')) {
        state.storeReachable = true;
        state.enter(state.fenced ? 'fenced' : 'waiting');
        state.problem('lineage', error);
        if (!said) log.warn(state.fenced ? 'fenced' : 'lineage-waiting', errorFields(error));
        said = true;
        // Of a lineage that is another's there is nothing to save.
        throwIfEnding(parts.terminated);
        await sleep(jittered(parts, heldMs));
        throwIfEnding(parts.terminated);
      } else if (isHoldfastError(error, ...mayPass)) {
        state.storeReachable = false;
        state.problem('store', error);
        log.warn('store-waiting', errorFields(error));
        await sleep(jittered(parts, Math.min(waitMsMax, waitMsMin * 2 ** failures)));
      } else throw error;
      throwIfEnding(signal);
    }
  }
}

/** Half to one and a half. */
function jittered({ random }: AgentParts, ms: number): number {
  return ms * (0.5 + (random.bytes(1)[0] ?? 0) / 256);
}

function throwIfEnding(signal: AbortSignal): void {
  if (signal.aborted) throw new HoldfastError('E_ABORTED', 'the agent was told to end before it had its lineage');
}
