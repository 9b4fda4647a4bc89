/** The receipt of a run, and the places where it is left: the state directory, the store, and whoever started the run. */
import type { ReceiptVolume, RestoreReceipt } from '../../contract/receipt.ts';
import { printReceipt, receiptVersion } from '../../contract/receipt.ts';
import { receiptFile } from '../../contract/state-directory.ts';
import { storeReceipt } from '../../engine/lineage/receipts.ts';
import { equalBytes, toHex } from '../../engine/model/bytes.ts';
import { HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';
import { recordIdText, toSlot } from '../../engine/model/ids.ts';
import type { RehydrateRun } from './rehydrate-run.ts';
import type { SurveyedVolume } from './survey.ts';
import { within } from './within.ts';

const receiptMsMax = 5000;

/** The container runs again in a pod whose application has its data: no store is asked, and nothing is written. */
export async function leaveAlone(run: RehydrateRun): Promise<RestoreReceipt> {
  run.ports.onEvent({
    event: 'rehydrate.live',
    message: 'the volumes are in use already and stay as they are',
    details: { volumes: run.survey.map(({ name }) => name) },
  });
  run.policy = { answer: 'live', applied: null, why: 'this pod was restored before, and its data survived' };
  // The receipt of the restore stays where it is; but each run of a container begins with an empty termination message.
  const receipt = receiptOf(run, 'kept', undefined);
  await run.options.onReceipt(receipt);
  return receipt;
}

export async function finish(run: RehydrateRun): Promise<RestoreReceipt> {
  await run.mark('done');
  const kinds = [...run.origins.values()].map(({ kind }) => kind);
  const outcome = kinds.includes('checkpoint') ? 'restored' : kinds.includes('empty') ? 'empty' : 'kept';
  await storeReceiptOf(run, receiptOf(run, outcome, undefined));
  return await keepReceipt(run, receiptOf(run, outcome, undefined));
}

/** The error to end with, once the receipt tells of it. */
export async function fail(run: RehydrateRun, error: unknown): Promise<unknown> {
  const aborted = run.signal.aborted && !isHoldfastError(error);
  const failure = aborted ? new HoldfastError('E_ABORTED', 'the restore was interrupted', { cause: error }) : error;
  if (isHoldfastError(failure)) {
    await storeReceiptOf(run, receiptOf(run, 'failed', failure));
    try {
      await keepReceipt(run, receiptOf(run, 'failed', failure));
    } catch {
      // The error that is on its way says more than that it could not be written down.
    }
  }
  return failure;
}

export async function sayWaiting(
  run: RehydrateRun,
  event: 'rehydrate.held' | 'rehydrate.no-data',
  message: string,
): Promise<void> {
  await run.ports.state.replace(
    receiptFile,
    printReceipt({ ...receiptOf(run, 'waiting', undefined), waitsFor: message }),
  );
  // Who hears of it finds the receipt.
  run.ports.onEvent({ event, message });
}

/** For those who look at the store. The application does not wait for it for long. */
async function storeReceiptOf(run: RehydrateRun, receipt: RestoreReceipt): Promise<void> {
  const { clock, random } = run.ports;
  const store = run.store;
  const access = run.access;
  if (store === undefined || access === undefined || run.signal.aborted) return;
  const text = printReceipt(receipt);
  const slot = toSlot(run.epoch ?? 0);
  try {
    await within(clock, receiptMsMax, run.signal, (signal) =>
      storeReceipt({ store, access, clock, random }, run.lineage, { slot, text, signal }),
    );
  } catch (error) {
    if (!isHoldfastError(error)) throw error;
    run.warn(`the receipt is not in the store: ${error.message}`);
  }
}

async function keepReceipt(run: RehydrateRun, receipt: RestoreReceipt): Promise<RestoreReceipt> {
  await run.ports.state.replace(receiptFile, printReceipt(receipt));
  await run.options.onReceipt(receipt);
  return receipt;
}

function receiptOf(
  run: RehydrateRun,
  outcome: RestoreReceipt['outcome'],
  error: HoldfastError | undefined,
): RestoreReceipt {
  const { clock } = run.ports;
  const { podUid, podName, store } = run.settings;
  const lineage = run.lineage;
  const endedMs = clock.nowMs();
  const source = run.source;
  const volumes = Object.fromEntries(run.survey.map((volume) => [volume.name, volumeReceipt(run, volume)]));
  const restored = Object.values(volumes).filter((volume) => volume.outcome === 'restored');
  return {
    version: receiptVersion,
    outcome,
    podUid,
    podName,
    lineage,
    store,
    startedAt: new Date(run.startedAtMs).toISOString(),
    endedAt: new Date(endedMs).toISOString(),
    seconds: Math.round(clock.monotonicMs() - run.startedMs) / 1000,
    from:
      source === undefined
        ? null
        : {
            lineage: source.lineage,
            slot: source.record.header.slot,
            id: recordIdText(source.record.header.id),
            digest: toHex(source.record.digest),
            root: toHex(source.body.setRoot),
            time: new Date(source.record.header.timeMs).toISOString(),
            ageSeconds: Math.max(0, Math.round((run.startedAtMs - source.record.header.timeMs) / 1000)),
            consistency: source.record.header.consistency ?? 'fuzzy',
          },
    epoch: run.epoch ?? null,
    handoff: run.handoff ?? null,
    restoreAt: run.restoreAt,
    policy: run.policy,
    verified: restored.length > 0 && restored.every(({ verified }) => verified),
    moved: run.moved,
    suspect: run.suspect,
    volumes,
    waitsFor: null,
    error: error === undefined ? null : pick(error),
    warnings: run.warnings,
  };
}

function volumeReceipt(run: RehydrateRun, { name, path, state }: SurveyedVolume): ReceiptVolume {
  const restored = run.restored.get(name);
  if (restored !== undefined) {
    const { rootExpected, rootGot, files, bytes, newBytes, degraded } = restored;
    return {
      path,
      outcome: 'restored',
      root: toHex(rootExpected),
      verified: rootGot !== undefined && equalBytes(rootGot, rootExpected),
      files,
      bytes,
      newBytes,
      degraded: Object.fromEntries(degraded.map(({ reason, count }) => [reason, count])),
    };
  }
  const kept = state === 'live' || run.origins.get(name)?.kind === 'kept';
  return {
    path,
    outcome: kept ? 'kept' : 'empty',
    root: null,
    verified: false,
    files: 0,
    bytes: 0,
    newBytes: 0,
    degraded: {},
  };
}

function pick({ code, exit, message, remedy }: HoldfastError): RestoreReceipt['error'] {
  return { code, exit, message, remedy };
}
