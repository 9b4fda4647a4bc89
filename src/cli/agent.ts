/** `holdfast agent`: reads the settings, and hands the agent the machine. */
import { basename, dirname, join } from 'node:path';
import { runAgent } from '../agent/agent.ts';
import type { AgentParts, Connection, ConnectOptions } from '../agent/parts.ts';
import {
  type AgentSettings,
  type AgentVolume,
  defaultObjectiveMs,
  type LogLevel,
  logLevels,
} from '../agent/settings.ts';
import { agentSocketName } from '../contract/agent-api.ts';
import { hookAddress, type Schedule, schedule as parseSchedule } from '../contract/annotation-parsers.ts';
import { markerFile, parseMarker } from '../contract/state-directory.ts';
import { makeSelection } from '../engine/capture/select.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { domainOf } from '../engine/lineage/repository.ts';
import {
  type HolderId,
  type LineageName,
  toHolderId,
  toLineageName,
  toSlot,
  type VolumeName,
} from '../engine/model/ids.ts';
import type { Compressor } from '../engine/ports/compressor.ts';
import { anchorsOf, livenessOf } from './cluster-service.ts';
import type { Host, HostFileTree } from './host.ts';
import { namedDirectories, type OptionName, type Parsed, parseDuration, parseRate, usage } from './options.ts';
import { baseSource, noArguments, refuseNested, repositoryOf } from './session.ts';
import { stateDirectoryOf } from './state-directory.ts';
import { lanesWithin } from './within-limits.ts';
import { assertReadable, captureSettings, restoredUpTo, sizeLimits, volumeSources } from './volume-sources.ts';

const graceMsDefault = 25_000;
const hookMsDefault = 10_000;
const usualMessage = '/dev/termination-log';

export async function agent(host: Host, parsed: Parsed): Promise<number> {
  host.outliveSignals();
  const memoryClosed = await host.closeMemory();
  if (!parsed.flag('not-nice')) await host.beNice();
  noArguments('agent', parsed);
  const address = parsed.required('store');
  const stateDirectory = stateDirectoryOf(host, parsed);
  const podUid = podUidOf(parsed);
  const settings = await settingsOf(host, parsed, address, stateDirectory);
  const fileTree = await host.fileTree();
  const sources = settings.volumes.map(({ source }) => source);
  for (const source of sources) assertReadable(fileTree.tree, source);
  refuseNested(fileTree.tree, 'agent', sources);
  await host.prepareSocket(settings.socketPath);
  using compressor = await host.compressor();
  const message = parsed.text('termination-message') ?? (host.exists(usualMessage) ? usualMessage : '');
  const parts: AgentParts = {
    clock: host.clock,
    random: host.random,
    terminated: host.signal,
    connect: (options) =>
      connect(host, parsed, { address, stateDirectory, podUid, settings, fileTree, compressor }, options),
    openLiveness: (onSilent) => livenessOf(host, parsed, onSilent),
    anchors: await anchorsOf(host, parsed, () => undefined),
    files: await host.openState(stateDirectory),
    users: host.volumeUsers(),
    hooks: await host.hookCaller(),
    watch: (path, onSwitch) => host.watch(path, onSwitch),
    memoryClosed,
    holderName: parsed.text('pod-name') ?? host.hostName,
    writeTerminationMessage: (text) => message !== '' && host.writeNote(message, text),
    token: await tokenOf(host, parsed),
    residentBytes: () => host.residentBytes(),
    writeLog: (line) => void host.stdout.write(line),
  };
  return await runAgent(parts, settings);
}

async function tokenOf(host: Host, parsed: Parsed): Promise<() => Promise<string | undefined>> {
  const path = parsed.text('token-file');
  if ((path === undefined) !== (parsed.text('port') === undefined)) {
    throw usage('agent', '--port and --token-file go together: every process of the pod reaches the port');
  }
  if (path === undefined) return async () => undefined;
  const directory = await host.openState(dirname(path));
  return async () => {
    const text = await directory.read(basename(path)).catch(() => undefined);
    return text === undefined || text.trim() === '' ? undefined : text.trim();
  };
}

interface Place {
  readonly address: string;
  readonly stateDirectory: string;
  readonly podUid: HolderId;
  readonly settings: AgentSettings;
  readonly fileTree: HostFileTree;
  readonly compressor: Compressor;
}

async function connect(
  host: Host,
  parsed: Parsed,
  { address, stateDirectory, podUid, settings, fileTree, compressor }: Place,
  { signal, onWaiting, onHeldBack, onCacheFailure }: ConnectOptions,
): Promise<Connection> {
  const { lineage } = settings;
  const { clock, random } = host;
  // The signal of the process only begins the end of an agent: what it does then still takes requests.
  const lasting: Host = { ...host, signal };
  await using opened = new AsyncDisposableStack();
  const store = opened.use(
    await host.openWriter(address, {
      create: false,
      onRetry: onWaiting,
      ending: { signal: host.signal, msMax: settings.graceMs },
      bandwidth: {
        uploadBytesPerSecond: settings.uploadBytesPerSecond,
        // From SIGTERM on what is left counts more than the neighbours.
        lifted: host.signal,
        onWaited: onHeldBack,
      },
    }),
  );
  const repository = await repositoryOf(lasting, 'agent', parsed, store);
  const access = await repository.openOrMakeDomain(domainOf(lineage), { store, clock, random, signal });
  const place = { stateDirectory, repository: repository.id, lineage };
  const holder = opened.use(await host.openHolder({ ...place, holder: podUid }));
  const volumes = settings.volumes.map(({ source }) => source);
  const restoredSlot = await restoredUpTo(host, fileTree.tree, volumes, (path) =>
    host.openMarker({ ...place, path, slot: toSlot(0) }),
  );
  const cache = await host.openCache({ ...place, volumes, own: true, onFailure: onCacheFailure });
  const kept = opened.move();
  return {
    capture: {
      files: fileTree.tree,
      store,
      compressor,
      clock,
      random,
      cache,
      lanes: host.lanes(),
      locks: fileTree.locks,
    },
    access,
    holder,
    unfenced: repository.unfenced,
    restoredSlot,
    sourceOf: baseSource(lasting, store, access, lineage, compressor),
    tryCacheAgain: () => cache?.tryAgain?.() ?? false,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

async function settingsOf(host: Host, parsed: Parsed, address: string, stateDirectory: string): Promise<AgentSettings> {
  const named = parsed.list('volume');
  if (named.length === 0) throw usage('agent', '--volume is missing: name each volume and its directory, VOLUME=DIR');
  const schedule = scheduleOf('schedule', parsed.required('schedule'));
  const own = volumeSchedules(parsed);
  const selection = makeSelection(parsed.list('include'), parsed.list('exclude'));
  const sources = volumeSources(host, namedDirectories('agent', named), selection, [
    await host.storePath(address),
    stateDirectory,
  ]);
  for (const name of own.keys()) {
    if (!sources.some((source) => source.name === name))
      throw usage('agent', `--volume-schedule names ${name}, which is no --volume`);
  }
  const limits = sizeLimits('agent', parsed, sources);
  const rpo = parsed.text('rpo');
  const grace = parsed.text('grace');
  const podUid = podUidOf(parsed);
  return Object.freeze({
    version: host.version,
    lineage: await lineageOf(host, parsed, stateDirectory, podUid),
    podUid,
    volumes: sources.map(
      (source): AgentVolume => ({ source, schedule: own.get(source.name), bytesMax: limits.get(source.name) }),
    ),
    schedule,
    objectiveMs: rpo === undefined ? defaultObjectiveMs(schedule) : positive('rpo', rpo),
    graceMs: grace === undefined ? graceMsDefault : positive('grace', grace),
    socketPath: join(stateDirectory, agentSocketName),
    ...hooksOf(parsed),
    port: parsed.text('port') === undefined ? undefined : parsed.number('port', 1, 65_535, 1),
    metricsPort: parsed.text('metrics-port') === undefined ? undefined : parsed.number('metrics-port', 1, 65_535, 1),
    uploadBytesPerSecond: parseRate('agent', 'limit-upload', parsed),
    logLevel: logLevelOf(parsed.text('log-level') ?? 'info'),
    capture: {
      ...captureSettings(host, 'agent', parsed),
      laneCount: parsed.number('lanes', 0, 64, lanesWithin(await host.limits(), host.parallelism)),
      trustCache: true,
      saltContext: [host.bootId(), podUid],
    },
  });
}

/** That of the option, or the replica slot of it that the init container has chosen for this pod. */
async function lineageOf(host: Host, parsed: Parsed, stateDirectory: string, podUid: string): Promise<LineageName> {
  const named = toLineageName(parsed.required('lineage'));
  const text = await (await host.openState(stateDirectory)).read(markerFile);
  const marker = text === undefined ? undefined : parseMarker(text);
  if (marker === undefined || marker.podUid !== podUid) return named;
  if (!marker.writes) {
    throw new HoldfastError('E_USAGE', `this pod only began from ${marker.lineage}, and does not write it`, {
      remedy: 'Run no agent in it, or let it have a lineage of its own.',
    });
  }
  return marker.lineage;
}

function hooksOf(parsed: Parsed): Pick<AgentSettings, 'hooks' | 'postRestore'> {
  const addressOf = (option: OptionName): string | undefined => {
    const text = parsed.text(option);
    if (text === undefined || text === '') return undefined;
    if (/^unix:\/[^:]+:\/[!-~]*$/.test(text) || 'value' in hookAddress(text)) return text;
    throw usage(
      'agent',
      `--${option} is ${JSON.stringify(text.slice(0, 100))}, not http://127.0.0.1:8080/path or unix:/app.sock:/path`,
    );
  };
  const pre = addressOf('hook-pre-checkpoint');
  const post = addressOf('hook-post-checkpoint');
  const restored = addressOf('hook-post-restore');
  const wait = parsed.text('hook-timeout');
  const waitMs = wait === undefined ? hookMsDefault : positive('hook-timeout', wait);
  return {
    hooks: pre === undefined && post === undefined ? undefined : { pre, post, waitMs },
    postRestore: restored === undefined ? undefined : { address: restored, waitMs },
  };
}

function podUidOf(parsed: Parsed): HolderId {
  const text = parsed.required('pod-uid');
  try {
    return toHolderId(text);
  } catch (cause) {
    throw usage('agent', `--pod-uid is ${JSON.stringify(text.slice(0, 100))}, not the UID of a pod`, cause);
  }
}

function volumeSchedules(parsed: Parsed): ReadonlyMap<VolumeName, Schedule> {
  const found = new Map<VolumeName, Schedule>();
  for (const text of parsed.list('volume-schedule')) {
    const at = text.indexOf('=');
    if (at <= 0) throw usage('agent', `--volume-schedule is ${JSON.stringify(text)}, not VOLUME=WHEN`);
    const [named] = namedDirectories('agent', [text]);
    if (named !== undefined) found.set(named.name, scheduleOf('volume-schedule', text.slice(at + 1)));
  }
  return found;
}

function scheduleOf(option: OptionName, text: string): Schedule {
  const parsed = parseSchedule(text);
  if ('problem' in parsed)
    throw usage('agent', `--${option} is ${JSON.stringify(text.slice(0, 100))}: ${parsed.problem}`);
  return parsed.value;
}

function positive(option: OptionName, text: string): number {
  const ms = parseDuration('agent', option, text);
  if (ms === 0) throw usage('agent', `--${option} is ${text}: nothing can be done in no time`);
  return ms;
}

function logLevelOf(text: string): LogLevel {
  const level = logLevels.find((candidate) => candidate === text);
  if (level === undefined)
    throw usage('agent', `--log-level is ${JSON.stringify(text)}, not one of ${logLevels.join(', ')}`);
  return level;
}
