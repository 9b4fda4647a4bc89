/** `holdfast show`: one record in full. */
import { packEntryName } from '../engine/format/pack-entry.ts';
import { packTableName } from '../engine/format/pack-table.ts';
import { toHex } from '../engine/model/bytes.ts';
import { bodyJson, headerJson, shortTime, storedBytesOf, timeText } from './describe-record.ts';
import type { Host } from './host.ts';
import { type Parsed, usage } from './options.ts';
import { formatBytes, formatCount, formatFiles, printTable, shortList, styled } from './print.ts';
import { formOf, openLineage, recordAt } from './session.ts';
import { fencingJson } from './warnings.ts';

export async function show(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('show', parsed);
  const [which, more] = parsed.positionals;
  if (more !== undefined) throw usage('show', `show takes one checkpoint: ${more}`);
  if (which !== undefined && parsed.given('at')) throw usage('show', 'the checkpoint was named twice, also by --at');
  await using opened = await openLineage(host, 'show', parsed);
  const record = await recordAt(host, opened, which ?? parsed.text('at'));
  const body = opened.log.body(record);
  const { header } = record;
  const { packs, table } = await opened.log.packs(record, { signal: host.signal });
  const release = await opened.log.release(record, { signal: host.signal });
  const { predecessor, previousClaim, generation, origins, totals } = header;
  if (form === 'json') {
    host.stdout.write(
      `${JSON.stringify({
        repository: header.repository,
        ...fencingJson(opened.repository),
        domain: header.domain,
        lineage: header.lineage,
        ...headerJson(record),
        ...(release === undefined
          ? {}
          : { released: { time: timeText(release.timeMs), by: release.by, reason: release.reason } }),
        ...bodyJson(body),
        generation,
        previousClaim,
        predecessor: predecessor === undefined ? null : { slot: predecessor.slot, digest: toHex(predecessor.digest) },
        origins,
        packs: packs.map((pack) => ({
          name: packEntryName(pack),
          origin: pack.origin,
          bytes: pack.bytes,
          inlined: pack.inlined,
          plainBytes: pack.plainBytes,
          liveBytes: pack.liveBytes,
        })),
        packTable: table === undefined ? null : packTableName(table.link),
      })}\n`,
    );
    return 0;
  }
  const { stdout } = host;
  const liveBytes = packs.reduce((sum, pack) => sum + Math.min(pack.liveBytes, pack.plainBytes), 0);
  const plainBytes = packs.reduce((sum, pack) => sum + pack.plainBytes, 0);
  const inlined = packs.filter((pack) => pack.inlined).length;
  stdout.write(
    `${styled(stdout, 'bold', `${header.kind} ${header.slot}`)} of ${header.lineage}, ${shortTime(header.timeMs)}\n`,
  );
  const rows = [
    ['root', toHex(body.setRoot)],
    ['id', toHex(header.id)],
    ['digest', toHex(record.digest)],
    ['consistency', `${header.consistency}${header.suspect ? ', suspect' : ''}`],
    ...(release === undefined
      ? []
      : [
          [
            'released',
            `${shortTime(release.timeMs)} by ${release.by}${release.reason === '' ? '' : `: ${release.reason}`}`,
          ],
        ]),
    ['content', `${formatFiles(totals.files)}, ${formatCount(totals.entries)} names, ${formatBytes(totals.bytes)}`],
    ['new', `${formatBytes(totals.newBytes)}, stored as ${formatBytes(storedBytesOf(record))}`],
    ['written by', `${header.holderName} (${header.holder}), claim ${header.epoch}`],
    ['after', predecessor === undefined ? 'nothing' : `record ${predecessor.slot}`],
    ['packs', `${formatCount(packs.length)}, ${formatCount(inlined)} of them inside records`],
    ['in use', `${formatBytes(liveBytes)} of the ${formatBytes(plainBytes)} in those packs`],
    ...header.labels.map(({ name, value }) => [`label ${name}`, value]),
  ];
  printTable(
    stdout,
    rows.map(([name, value]) => [`  ${name}`, value ?? '']),
    { head: false },
  );
  for (const volume of body.volumes) {
    const { name, root, skipped, fuzzyCount, fuzzyNames, volatileCount, volatileNames } = volume;
    stdout.write(
      `${styled(stdout, 'bold', `volume ${name}`)}: ${formatFiles(root.sums.files)}, ` +
        `${formatBytes(root.sums.bytes)}\n  root  ${toHex(root.id)}\n`,
    );
    for (const { reason, count, names } of skipped) {
      stdout.write(`  ${styled(stdout, 'yellow', `${reason} ${formatCount(count)}`)}  ${shortList(names, count)}\n`);
    }
    if (fuzzyCount > 0) {
      const moved = `moved while read ${formatCount(fuzzyCount)}`;
      stdout.write(`  ${styled(stdout, 'yellow', moved)}  ${shortList(fuzzyNames, fuzzyCount)}\n`);
    }
    if (volatileCount > 0) {
      stdout.write(`  volatile ${formatCount(volatileCount)}  ${shortList(volatileNames, volatileCount)}\n`);
    }
  }
  return 0;
}
