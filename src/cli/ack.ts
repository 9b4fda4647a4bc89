/** `holdfast ack`: releases a suspect checkpoint, so that it counts like any other. */
import type { LogRecord } from '../engine/format/record.ts';
import { releaseTextMax } from '../engine/format/release.ts';
import type { LineageLog } from '../engine/lineage/log.ts';
import { openLog } from '../engine/lineage/open-log.ts';
import { releaseCheckpoint } from '../engine/lineage/releases.ts';
import { resolveCheckpoint } from '../engine/lineage/resolve.ts';
import { toHex, utf8Bytes } from '../engine/model/bytes.ts';
import { HoldfastError } from '../engine/model/errors.ts';
import { type LineageName, toLineageName } from '../engine/model/ids.ts';
import { shortTime, timeText } from './describe-record.ts';
import type { Host } from './host.ts';
import { type Parsed, usage } from './options.ts';
import { formatBytes, formatFiles, printable, styled } from './print.ts';
import { formOf, repositoryOf, selectorOf } from './session.ts';
import { fencingJson } from './warnings.ts';

export async function ack(host: Host, parsed: Parsed): Promise<number> {
  const form = formOf('ack', parsed);
  const [which, more] = parsed.positionals;
  if (more !== undefined) throw usage('ack', `ack takes one checkpoint: ${more}`);
  const lineage = toLineageName(parsed.required('lineage'));
  const reason = parsed.text('reason') ?? '';
  if (utf8Bytes(reason).length > releaseTextMax) throw usage('ack', `--reason is longer than ${releaseTextMax} bytes`);
  const { clock, random, signal } = host;
  await using store = await host.openWriter(parsed.required('store'), { create: false });
  const repository = await repositoryOf(host, 'ack', parsed, store);
  const { log, access } = await openLog(store, repository, lineage, { signal });
  const record = await suspectAt(log, lineage, which, signal);
  const known = await log.release(record, { signal });
  const release =
    known ?? (await releaseCheckpoint({ store, access, clock, random }, record, { by: host.hostName, reason, signal }));
  const { slot, id, totals } = record.header;
  if (form === 'json') {
    host.stdout.write(
      `${JSON.stringify({
        repository: repository.id,
        ...fencingJson(repository),
        lineage,
        slot,
        id: toHex(id),
        digest: toHex(record.digest),
        released: timeText(release.timeMs),
        by: release.by,
        reason: release.reason,
        already: known !== undefined,
      })}\n`,
    );
    return 0;
  }
  const { stdout } = host;
  const what = `${formatFiles(totals.files)}, ${formatBytes(totals.bytes)}`;
  if (known !== undefined) {
    const why = known.reason === '' ? '' : `: ${printable(known.reason)}`;
    stdout.write(
      `Checkpoint ${slot} of ${lineage} was released before, ${shortTime(known.timeMs)} by ${printable(known.by)}${why}\n`,
    );
    return 0;
  }
  stdout.write(`${styled(stdout, 'bold', `Released checkpoint ${slot}`)} of ${lineage}: ${what}\n`);
  stdout.write('  It is restored by default again, and later checkpoints are compared with it.\n');
  return 0;
}

/** The newest one that is suspect, or the one that was named. E_NOT_FOUND, E_USAGE when that is not suspect. */
async function suspectAt(
  log: LineageLog,
  lineage: LineageName,
  which: string | undefined,
  signal: AbortSignal,
): Promise<LogRecord> {
  if (which === undefined) {
    for await (const record of log.records({ signal })) {
      if (record.header.kind !== 'CHECKPOINT') continue;
      if (record.header.suspect) return record;
      break;
    }
    throw new HoldfastError('E_NOT_FOUND', `the newest checkpoint of ${lineage} is not suspect`, {
      remedy: 'Nothing waits for a release. To release an older one, name its slot: holdfast ls --lineage NAME',
    });
  }
  const selector = selectorOf(which);
  if (selector.by === 'latest' || selector.by === 'time') {
    throw usage('ack', `name a checkpoint by its slot or id: ${which} never means a suspect one`);
  }
  const record = await resolveCheckpoint(log, selector, { signal });
  if (!record.header.suspect) throw usage('ack', `checkpoint ${record.header.slot} of ${lineage} is not suspect`);
  return record;
}
