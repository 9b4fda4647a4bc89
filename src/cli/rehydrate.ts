/** `holdfast rehydrate`, the init container: reads its settings, hands the parts to it, and leaves its receipt where it is looked for. */
import {
  type DataPolicies,
  type DataPolicy,
  defaultPolicies,
  type NoDataAnswer,
  parseDataPolicy,
} from '../agent/rehydrate/data-policy.ts';
import type {
  ContainerPorts,
  ContainerSettings,
  ContainerVolume,
  RehydrateEvent,
} from '../agent/rehydrate/rehydrate-ports.ts';
import type { RestoreAt } from '../agent/rehydrate/restore-at.ts';
import { runRehydrate } from '../agent/rehydrate/run-rehydrate.ts';
import { checkpointName } from '../contract/annotation-parsers.ts';
import { printReceipt, type RestoreReceipt } from '../contract/receipt.ts';
import { openRepository } from '../engine/lineage/repository.ts';
import { parseSelector } from '../engine/lineage/resolve.ts';
import { parseAnchor } from '../engine/model/anchor.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { toHolderId, toLineageName, type HolderId } from '../engine/model/ids.ts';
import { restoreDefaults } from '../engine/rehydrate/rehydrate-request.ts';
import { anchorsOf, livenessOf } from './cluster-service.ts';
import type { Host, HostFileTree } from './host.ts';
import { namedDirectories, type OptionName, parseDuration, type Parsed, parseRate, usage } from './options.ts';
import { formatBytes, formatFiles, formatSeconds, printable, styled } from './print.ts';
import { showProgress } from './progress.ts';
import { encryptionOf, formOf, isWithin, keyRingOf, noArguments, refuseNested } from './session.ts';
import { stateDirectoryOf } from './state-directory.ts';
import { sizeLimits } from './volume-sources.ts';
import { bufferBytesWithin, lanesWithin, type Limits } from './within-limits.ts';

const command = 'rehydrate';

export async function rehydrateContainer(host: Host, parsed: Parsed): Promise<number> {
  await host.closeMemory();
  const form = formOf(command, parsed);
  noArguments(command, parsed);
  const settings = settingsOf(host, parsed, await host.limits());
  const stateDirectory = stateDirectoryOf(host, parsed);
  const own = [await host.storePath(settings.store), stateDirectory];
  for (const { path } of settings.volumes) refuseOwn(host, path, own);
  const fileTree = await host.fileTree();
  refuseNested(fileTree.tree, command, settings.volumes);
  using compressor = await host.compressor();
  const progress = showProgress(host, form === 'text');
  const say = (event: RehydrateEvent): void => {
    progress.pause();
    sayEvent(host, form, event);
  };
  try {
    const receipt = await runRehydrate(
      await portsOf(host, parsed, { settings, stateDirectory, fileTree, compressor, say, progress }),
      { ...settings, laneCount: fileTree.sharedDescriptors ? settings.laneCount : 0 },
      { signal: host.signal, onReceipt: async (receipt) => leaveNote(host, parsed, receipt) },
    );
    progress.end();
    if (form === 'json') host.stdout.write(printReceipt(receipt));
    else printReceiptText(host, receipt);
    return 0;
  } finally {
    progress.end();
  }
}

interface Parts {
  readonly settings: ContainerSettings;
  readonly stateDirectory: string;
  readonly fileTree: HostFileTree;
  readonly compressor: ContainerPorts['compressor'];
  readonly say: (event: RehydrateEvent) => void;
  readonly progress: ReturnType<typeof showProgress>;
}

async function portsOf(host: Host, parsed: Parsed, parts: Parts): Promise<ContainerPorts> {
  const { settings, stateDirectory, fileTree, compressor, say, progress } = parts;
  const warn = (message: string): void => say({ event: 'rehydrate.warning', message });
  return {
    files: fileTree.tree,
    state: await host.openState(stateDirectory),
    openStore: () =>
      host.openWriter(settings.store, {
        create: false,
        bandwidth: { downloadBytesPerSecond: parseRate(command, 'limit-download', parsed) },
      }),
    openRepository: async (store, signal) =>
      await openRepository(
        store,
        { keyRing: await keyRingOf(host, parsed), encryption: encryptionOf(command, parsed) },
        { signal },
      ),
    openHolder: (repository, lineage) =>
      host.openHolder({ stateDirectory, repository, lineage, holder: settings.podUid }),
    openMarker: (repository, lineage, path, slot) =>
      host.openMarker({ stateDirectory, repository, lineage, path, slot }),
    openCache: (repository, lineage) =>
      host.openCache({
        stateDirectory,
        repository,
        lineage,
        volumes: settings.volumes,
        own: false,
        onFailure: (error) =>
          say({ event: 'rehydrate.warning', message: `the first checkpoint will read everything: ${error.message}` }),
      }),
    compressor,
    clock: host.clock,
    random: host.random,
    lanes: host.lanes(),
    liveness: await livenessOf(host, parsed, warn),
    anchors: await anchorsOf(host, parsed, warn),
    bootId: host.bootId(),
    freeBytes: host.freeBytes,
    onEvent: say,
    onProgress: ({ phase, volume, files, bytes, filesTotal, bytesTotal }) =>
      progress.update({ label: `${volume}: ${phase}`, files, bytes, filesTotal, bytesTotal }),
  };
}

function settingsOf(host: Host, parsed: Parsed, limits: Limits): ContainerSettings {
  const named = namedDirectories(command, parsed.list('volume'));
  if (named.length === 0) throw usage(command, '--volume is missing; it can also come from HOLDFAST_VOLUME');
  const sizes = sizeLimits(command, parsed, named);
  const volumes = named.map(
    ({ name, path }): ContainerVolume => ({ name, path: host.realPath(path), bytesMax: sizes.get(name) }),
  );
  const expect = parsed.text('expect');
  return {
    lineage: toLineageName(parsed.required('lineage')),
    slots: slotsOf(parsed),
    store: parsed.required('store'),
    volumes,
    podUid: podUidOf(parsed.required('pod-uid')),
    podName: parsed.text('pod-name') ?? host.hostName,
    expect: expect === undefined || expect === '' ? undefined : parseAnchor(expect),
    restoreAt: restoreAtOf(parsed),
    policies: policiesOf(parsed),
    handoffMsMax: waitOf(parsed, 'handoff-wait', 30_000),
    claimMsMax: waitOf(parsed, 'claim-wait', 300_000),
    first: parsed.list('restore-first'),
    laneCount: parsed.number('lanes', 0, 64, lanesWithin(limits, host.parallelism)),
    inFlightBytes: bufferBytesWithin(limits, restoreDefaults.inFlightBytes),
  };
}

function podUidOf(text: string): HolderId {
  try {
    return toHolderId(text);
  } catch {
    throw usage(command, `--pod-uid is ${JSON.stringify(text.slice(0, 100))}, not a UID of letters, digits and dashes`);
  }
}

function slotsOf(parsed: Parsed): ContainerSettings['slots'] {
  const mode = parsed.text('slots');
  if (mode === undefined || mode === '') {
    if (parsed.given('replicas'))
      throw usage(command, '--replicas counts the slots of --slots claim, which is not given');
    if (parsed.given('when-held')) throw usage(command, '--when-held is about --slots claim, which is not given');
    return undefined;
  }
  if (mode !== 'claim' && mode !== 'seed' && mode !== 'refuse') {
    throw usage(command, `--slots is ${JSON.stringify(mode)}, not claim, seed or refuse`);
  }
  if (mode === 'claim') parsed.required('replicas');
  const whenHeld = parsed.text('when-held') ?? 'take';
  if (whenHeld !== 'take' && whenHeld !== 'fork') {
    throw usage(command, `--when-held is ${JSON.stringify(whenHeld)}, not take or fork`);
  }
  return { mode, replicas: mode === 'claim' ? parsed.number('replicas', 1, 1000, 1) : 1, whenHeld };
}

function waitOf(parsed: Parsed, name: OptionName, otherwise: number): number {
  const text = parsed.text(name);
  return text === undefined ? otherwise : parseDuration(command, name, text);
}

function restoreAtOf(parsed: Parsed): RestoreAt | undefined {
  const text = parsed.text('restore-at');
  if (text === undefined || text === '') return undefined;
  const name = checkpointName(text);
  const at = 'value' in name ? parseSelector(text) : undefined;
  if (at?.by === 'id' || at?.by === 'time') return { text, at };
  const problem = 'problem' in name ? name.problem : 'neither the id of a checkpoint nor a time';
  throw usage(command, `--restore-at is ${JSON.stringify(text.slice(0, 100))}: ${problem}`);
}

function policiesOf(parsed: Parsed): DataPolicies {
  const policyOf = (answer: NoDataAnswer): DataPolicy => {
    const name = `on-${answer}` as const;
    const text = parsed.text(name);
    if (text === undefined || text === '') return defaultPolicies[answer];
    const parsedPolicy = parseDataPolicy(answer, text);
    if ('value' in parsedPolicy) return parsedPolicy.value;
    throw usage(command, `--${name} is ${JSON.stringify(text)}: ${parsedPolicy.problem}`);
  };
  return { 'first-boot': policyOf('first-boot'), missing: policyOf('missing'), unreachable: policyOf('unreachable') };
}

function refuseOwn(host: Host, path: string, own: readonly (string | undefined)[]): void {
  for (const directory of own) {
    if (directory === undefined) continue;
    const real = host.realPath(directory);
    if (!isWithin(path, real) && !isWithin(real, path)) continue;
    throw new HoldfastError(
      'E_USAGE',
      `the volume ${path} and the store or state directory ${real} lie in each other`,
      { remedy: 'Keep the state directory in a volume of its own, which the application does not mount.' },
    );
  }
}

/** What the kubelet takes of a termination message. */
const noteBytesMax = 4096;
const usualNote = '/dev/termination-log';

/** The termination message shows why a pod does not start, where its people look first. */
function leaveNote(host: Host, parsed: Parsed, receipt: RestoreReceipt): void {
  const path = parsed.text('termination-message') ?? (host.exists(usualNote) ? usualNote : '');
  if (path === '') return;
  const whole = printReceipt(receipt);
  const { outcome, lineage, from, policy, error } = receipt;
  const text = whole.length <= noteBytesMax ? whole : `${JSON.stringify({ outcome, lineage, from, policy, error })}\n`;
  host.writeNote(path, text.slice(0, noteBytesMax));
}

function sayEvent({ stderr }: Host, form: 'text' | 'json', { event, message, details }: RehydrateEvent): void {
  if (form === 'json') stderr.write(`${JSON.stringify({ event, message, ...details })}\n`);
  else stderr.write(`holdfast: ${printable(message)}\n`);
}

function printReceiptText({ stdout }: Host, receipt: RestoreReceipt): void {
  const { outcome, from, policy, seconds, verified, handoff, lineage, restoreAt } = receipt;
  const what =
    from === null
      ? outcome === 'kept'
        ? 'Left as they are: the volumes'
        : 'Begins empty: the volumes'
      : `Restored checkpoint ${from.slot}`;
  const age = from === null ? '' : `, ${formatSeconds(from.ageSeconds)} old, ${from.consistency}`;
  stdout.write(`${styled(stdout, 'bold', what)} of ${lineage}${age}, in ${formatSeconds(seconds)}\n`);
  for (const [name, volume] of Object.entries(receipt.volumes)) {
    const size = volume.outcome === 'restored' ? `  ${formatFiles(volume.files)}, ${formatBytes(volume.bytes)}` : '';
    stdout.write(`  ${name}  ${printable(volume.path)}  ${volume.outcome}${size}\n`);
  }
  if (from !== null) {
    stdout.write(
      `  root    ${from.root}${verified ? `, ${styled(stdout, 'green', 'equal')}` : ', not proven equal'}\n`,
    );
  }
  if (handoff !== null) {
    stdout.write(
      `  waited  ${formatSeconds(handoff.seconds)} for ${printable(handoff.predecessor)}: ${handoff.outcome}\n`,
    );
  }
  if (restoreAt !== null) stdout.write(`  asked   ${restoreAt.value}: ${restoreAt.outcome}\n`);
  if (policy.applied !== null) stdout.write(`  policy  ${policy.applied}: ${printable(policy.why)}\n`);
}
