/** The guard against losses, as people give it: `20%`, `db=80%`, `logs:archive=50%`, `off`. */
import type { GuardRule, Suspicion } from '../engine/capture/poison-guard.ts';
import { emptyBytes } from '../engine/model/bytes.ts';
import { toVolumeName } from '../engine/model/ids.ts';
import { keyFromDisplay } from '../engine/model/rel-path.ts';
import { type Parsed, usage } from './options.ts';
import { formatBytes, formatFiles } from './print.ts';

/** Of what the last good checkpoint holds, as many files and bytes as must be left. */
const percentDefault = 20;

/** E_USAGE when one is not of that form, or `off` stands beside others. */
export function guardOf(command: string, parsed: Parsed): readonly GuardRule[] {
  const texts = parsed.list('guard');
  if (texts.includes('off')) {
    if (texts.length > 1) throw usage(command, '--guard off stands alone');
    return [];
  }
  const rules = texts.map((text) => ruleOf(command, text));
  const whole = rules.some(({ volume, path }) => volume === undefined && path.length === 0);
  return whole ? rules : [{ volume: undefined, path: emptyBytes, percentMin: percentDefault }, ...rules];
}

function ruleOf(command: string, text: string): GuardRule {
  const match = /^(?:(?:([^:=/]+):)?([^=]*)=)?(\d{1,3})%$/s.exec(text);
  const percentMin = Number(match?.[3]);
  if (match === null || percentMin > 100) {
    throw usage(
      command,
      `--guard is ${JSON.stringify(text)}, not a share such as 20%, db=80%, logs:archive=50%, or off`,
    );
  }
  const path = (match[2] ?? '').split('/').filter((part) => part !== '' && part !== '.');
  if (path.includes('..')) throw usage(command, `--guard ${text}: the path leaves the volume`);
  return {
    volume: match[1] === undefined ? undefined : toVolumeName(match[1]),
    path: path.length === 0 ? emptyBytes : keyFromDisplay(path.join('/')),
    percentMin,
  };
}

/** `data: 3 files of 4,000, 1 MiB of 2 GiB`; for people, and as a label. */
export function describeSuspicion({ volume, path, reason, before, now }: Suspicion): string {
  const where = path === '.' ? volume : `${volume}: ${path}`;
  if (reason === 'torn') return `${where}: files of a PostgreSQL cluster moved while they were read`;
  return `${where}: ${formatFiles(now.files)} of ${formatFiles(before.files)}, ${formatBytes(now.bytes)} of ${formatBytes(before.bytes)}`;
}
