/** `holdfast checkpoint`: claim the lineage, capture, commit, say what happened. */
import { isAbsolute, relative } from 'node:path';
import {
  type CaptureOutcome,
  type CaptureSettings,
  type CaptureTarget,
  capture,
  type VolumeSource,
} from '../engine/capture/capture.ts';
import { makeSelection, type Selection } from '../engine/capture/select.ts';
import { readBase } from '../engine/lineage/base.ts';
import { claimLineage } from '../engine/lineage/claim.ts';
import type { CommitBase, LineageWriter } from '../engine/lineage/lineage-writer.ts';
import { LineageLog } from '../engine/lineage/log.ts';
import { type DomainAccess, domainOf } from '../engine/lineage/repository.ts';
import { toHex } from '../engine/model/bytes.ts';
import { errorCatalogue, HoldfastError } from '../engine/model/errors.ts';
import { type LineageName, toEpoch, toLineageName, toVolumeName } from '../engine/model/ids.ts';
import { keyFromDisplay } from '../engine/model/rel-path.ts';
import type { Host } from './host.ts';
import { parseBytes, type Parsed, parseDuration, usage } from './options.ts';
import { formatBytes, formatCount, formatSeconds, styled } from './print.ts';
import { showProgress } from './progress.ts';
import { baseSource, cacheDirectory, formOf, repositoryOf, stateDirectoryOf } from './session.ts';

const mebibyte = 1024 * 1024;

export async function checkpoint(host: Host, parsed: Parsed): Promise<number> {
  const started = host.clock.monotonicMs();
  const form = formOf('checkpoint', parsed);
  const lineage = toLineageName(parsed.required('lineage'));
  const address = parsed.required('store');
  const dryRun = parsed.flag('dry-run');
  const stateDirectory = stateDirectoryOf(host, parsed);
  const volumes = volumesOf(host, parsed, [host.storePath(address), stateDirectory]);
  const settings = settingsOf(host, parsed, volumes);
  await using store = await host.openWriter(address, { create: false });
  const repository = await repositoryOf(host, 'checkpoint', parsed, store);
  const { clock, random, signal } = host;
  const access = await (dryRun
    ? domainForDryRun(host, repository, lineage)
    : repository.openOrMakeDomain(domainOf(lineage), { store, clock, random, signal }));
  const compressor = await host.compressor();
  const fileTree = host.fileTree();
  await using held = dryRun ? undefined : await host.openHolder({ stateDirectory, repository: repository.id, lineage });
  let writer: LineageWriter | undefined;
  let base: CommitBase | undefined;
  if (held !== undefined) {
    writer = await claimLineage({
      store,
      access,
      lineage,
      holder: held,
      holderName: host.hostName,
      clock,
      random,
      liveness: { isGone: async () => 'unknown' },
      policy: 'person',
      take: parsed.flag('take'),
      signal,
    });
  } else {
    const log = new LineageLog(store, access, lineage);
    base = await readBase(log, (await log.head({ signal })).record, { signal });
  }
  const known = (writer?.base ?? base)?.record.header.totals;
  const progress = showProgress(host, form === 'text');
  let outcome: CaptureOutcome;
  try {
    outcome = await capture(
      {
        files: fileTree.tree,
        store,
        compressor,
        clock,
        random,
        // A dry run holds no lock, so what another run keeps is not its to touch.
        cache: host.openCache(`${cacheDirectory(stateDirectory, repository.id, lineage)}${dryRun ? '.dry' : ''}`),
        lanes: host.lanes(),
      },
      {
        ...settings,
        laneCount: fileTree.sharedDescriptors ? settings.laneCount : 0,
        packBytesTarget: packTarget(writer),
      },
      targetOf(host, access, lineage, writer, base, store, compressor),
      {
        signal,
        onProgress: ({ phase, readBytes, entries }) =>
          progress.update({
            label: phase,
            files: entries,
            bytes: readBytes,
            bytesTotal: phase === 'read' && writer?.base === undefined ? (known?.bytes ?? 0) : 0,
            filesTotal: 0,
          }),
      },
    );
    if (parsed.flag('seal')) await writer?.seal({ signal });
  } finally {
    progress.end();
  }
  const seconds = (host.clock.monotonicMs() - started) / 1000;
  const facts = {
    lineage,
    dryRun,
    sealed: !dryRun && parsed.flag('seal'),
    seconds,
    requests: store.requests(),
    compressor: compressor.name,
    fileTree: fileTree.name,
    lanes: settings.laneCount,
    encryption: repository.encryption,
  };
  if (form === 'json') host.stdout.write(`${JSON.stringify({ ...jsonOf(outcome), ...facts })}\n`);
  else printSummary(host, outcome, facts);
  return outcome.incomplete ? errorCatalogue.E_INCOMPLETE.exit : 0;
}

/** A lineage without keys has no checkpoint to compare with, and a dry run makes none. */
async function domainForDryRun(
  host: Host,
  repository: Awaited<ReturnType<typeof repositoryOf>>,
  lineage: LineageName,
): Promise<DomainAccess> {
  return await repository.openDomain(domainOf(lineage), { signal: host.signal });
}

function packTarget(writer: LineageWriter | undefined): number {
  return (writer?.base === undefined ? 64 : 16) * mebibyte;
}

function targetOf(
  host: Host,
  access: DomainAccess,
  lineage: LineageName,
  writer: LineageWriter | undefined,
  base: CommitBase | undefined,
  store: Parameters<typeof baseSource>[1],
  compressor: Parameters<typeof baseSource>[4],
): CaptureTarget {
  return {
    lineage,
    keys: access.keys,
    packs: {
      identity: {
        repository: access.repository,
        domain: access.domain,
        lineage,
        epoch: writer?.epoch ?? toEpoch(0),
      },
      dataKey: access.dataKey,
    },
    writer,
    base,
    sourceOf: baseSource(host, store, access, lineage, compressor),
  };
}

/** A checkpoint that held its own store or state would chase its own tail: they are left out by name. */
function volumesOf(host: Host, parsed: Parsed, own: readonly (string | undefined)[]): VolumeSource[] {
  if (parsed.positionals.length === 0) throw usage('checkpoint', 'no directory was given');
  const volumes: VolumeSource[] = [];
  for (const text of parsed.positionals) {
    const named = /^([a-z0-9-]+)=(.+)$/s.exec(text);
    const name = toVolumeName(named?.[1] ?? 'data');
    const path = host.realPath(named?.[2] ?? text);
    if (volumes.some((volume) => volume.name === name)) {
      throw usage('checkpoint', `volume ${name} was given twice; name several directories: data=DIR1 logs=DIR2`);
    }
    const inside: string[] = [];
    for (const directory of own) {
      if (directory === undefined) continue;
      const below = relative(path, host.realPath(directory));
      if (below === '') {
        throw new HoldfastError('E_USAGE', `${path} is the store or the state directory itself`, {
          remedy: 'Checkpoint the directory of the application, and keep store and state elsewhere.',
        });
      }
      if (!below.startsWith('..') && !isAbsolute(below)) inside.push(below);
    }
    volumes.push({ name, path, selection: without(selectionOf(parsed), inside) });
  }
  return volumes;
}

function selectionOf(parsed: Parsed): Selection {
  return makeSelection(parsed.list('include'), parsed.list('exclude'));
}

function without(selection: Selection, inside: readonly string[]): Selection {
  if (inside.length === 0) return selection;
  const keys = inside.map(keyFromDisplay);
  return {
    signature: JSON.stringify([selection.signature, inside]),
    all: false,
    selects: (key, isDirectory) =>
      !keys.some((own) => own.length === key.length && own.every((byte, i) => byte === key[i])) &&
      selection.selects(key, isDirectory),
  };
}

function settingsOf(host: Host, parsed: Parsed, volumes: readonly VolumeSource[]): CaptureSettings {
  const labels: Record<string, string> = {};
  for (const label of parsed.list('label')) {
    const at = label.indexOf('=');
    if (at <= 0) throw usage('checkpoint', `--label is ${JSON.stringify(label)}, not KEY=VALUE`);
    labels[label.slice(0, at)] = label.slice(at + 1);
  }
  const within = parsed.text('converge-within');
  const partial = parsed.text('partial-bytes');
  return {
    volumes,
    laneCount: parsed.number('lanes', 0, 64, Math.min(host.parallelism, 4)),
    level: parsed.number('level', 1, 19, 1),
    dataSegmentBytes: mebibyte,
    metaSegmentBytes: 64 * 1024,
    packBytesTarget: 64 * mebibyte,
    inlineBytesMax: 256 * 1024,
    extraPassesMax: parsed.number('passes', 0, 1000, 3),
    convergeMsMax: within === undefined ? 60_000 : parseDuration('checkpoint', 'converge-within', within),
    partialBytes: partial === undefined ? 1024 * mebibyte : parseBytes('checkpoint', 'partial-bytes', partial),
    final: parsed.flag('seal'),
    quiesced: false,
    trustCache: !parsed.flag('no-cache') && !parsed.flag('dry-run'),
    labels,
  };
}

function jsonOf(outcome: CaptureOutcome): object {
  const { committed, volumes } = outcome;
  const sum = (of: (volume: (typeof volumes)[number]) => number): number =>
    volumes.reduce((total, volume) => total + of(volume), 0);
  return {
    root: toHex(outcome.root),
    slot: committed?.slot ?? null,
    id: committed === undefined ? null : toHex(committed.id),
    digest: committed === undefined ? null : toHex(committed.digest),
    files: sum(({ files }) => files),
    entries: sum(({ entries }) => entries),
    bytes: sum(({ bytes }) => bytes),
    newBytes: outcome.newBytes,
    storedBytes: outcome.storedBytes,
    consistency: outcome.consistency,
    passes: outcome.passes,
    partials: outcome.partials,
    skipped: volumes.flatMap(({ name, skipped }) => skipped.map((skip) => ({ volume: name, ...skip }))),
    incomplete: outcome.incomplete,
    volumes: Object.fromEntries(volumes.map(({ root, ...volume }) => [volume.name, { root: toHex(root), ...volume }])),
  };
}

interface Facts {
  readonly lineage: LineageName;
  readonly dryRun: boolean;
  readonly sealed: boolean;
  readonly seconds: number;
}

function printSummary(host: Host, outcome: CaptureOutcome, facts: Facts): void {
  const { stdout } = host;
  const { committed, volumes } = outcome;
  const files = volumes.reduce((total, volume) => total + volume.files, 0);
  const bytes = volumes.reduce((total, volume) => total + volume.bytes, 0);
  const head = committed === undefined ? 'Dry run' : `Checkpoint ${committed.slot}`;
  stdout.write(
    `${styled(stdout, 'bold', head)} of ${facts.lineage}: ${formatCount(files)} files, ${formatBytes(bytes)}, ` +
      `${outcome.consistency}, in ${formatSeconds(facts.seconds)}\n`,
  );
  stdout.write(`  root    ${toHex(outcome.root)}\n`);
  if (committed !== undefined) {
    stdout.write(`  id      ${toHex(committed.id)}\n`);
    stdout.write(`  new     ${formatBytes(outcome.newBytes)}, stored as ${formatBytes(outcome.storedBytes)}\n`);
  }
  if (facts.sealed) stdout.write('  sealed  another holder may go on with this lineage\n');
  for (const volume of volumes) {
    const where = volumes.length > 1 ? `${volume.name}: ` : '';
    for (const { reason, count, names } of volume.skipped) {
      const colour = reason === 'unreadable' ? 'red' : 'yellow';
      stdout.write(
        `  ${styled(stdout, colour, `${where}${reason} ${formatCount(count)}`)}  ${shortList(names, count)}\n`,
      );
    }
    if (outcome.consistency === 'fuzzy' && volume.fuzzyCount > 0) {
      stdout.write(
        `  ${styled(stdout, 'yellow', `${where}moved while read ${formatCount(volume.fuzzyCount)}`)}  ` +
          `${shortList(volume.fuzzyNames, volume.fuzzyCount)}\n`,
      );
    }
  }
}

function shortList(names: readonly string[], count: number): string {
  const shown = names.slice(0, 5).join(', ');
  return count > 5 ? `${shown}, …` : shown;
}
