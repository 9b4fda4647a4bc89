/** Strict parsers of annotation values. Each answers the value, or what is wrong in words that go on after `NAME is "VALUE": `. */
import { parseDurationMs } from '../engine/model/duration.ts';
import { isHoldfastError } from '../engine/model/errors.ts';
import { globExpression } from '../engine/model/glob.ts';
import { toVolumeName, type VolumeName } from '../engine/model/ids.ts';
import { isCron } from './cron.ts';
import { parseQuantity } from './quantity.ts';

export type ParsedValue<Value> = { readonly value: Value } | { readonly problem: string };
export type Parser<Value> = (text: string) => ParsedValue<Value>;

/** How often: every `everyMs`, or by a cron expression. */
export type Schedule = { readonly everyMs: number } | { readonly cron: string };

/** What happens when there is no data: go on empty, wait (for ever, or until the deadline, then fail), or take an older checkpoint. */
export type NoDataPolicy =
  | { readonly act: 'empty' }
  | { readonly act: 'block'; readonly deadlineMs: number | undefined }
  | { readonly act: 'older'; readonly ageMsMax: number };

/** Whose data: the last parts of a lineage before its slot. */
export interface WorkloadName {
  readonly kind: string;
  readonly name: string;
}

/** Values longer than this are refused unread: nothing that is meant is as long, and messages stay readable. */
export const annotationLengthMax = 4096;

function ok<Value>(value: Value): ParsedValue<Value> {
  return { value };
}

function no(problem: string): { readonly problem: string } {
  return { problem };
}

export const boolean: Parser<boolean> = (text) => {
  if (text === 'true' || text === 'false') return ok(text === 'true');
  return no('neither "true" nor "false"');
};

export function oneOf<Value extends string>(...allowed: readonly Value[]): Parser<Value> {
  return (text) => {
    const value = allowed.find((each) => each === text);
    return value === undefined ? no(`none of ${allowed.join(', ')}`) : ok(value);
  };
}

/** A duration from `minMs` to `maxMs`, both given as people write them. */
export function duration(min: string, max: string): Parser<number> {
  return (text) => {
    const value = parseDurationMs(text);
    if (value === undefined) return no('not a duration');
    if (value < (parseDurationMs(min) as number)) return no(`shorter than ${min}`);
    if (value > (parseDurationMs(max) as number)) return no(`longer than ${max}`);
    return ok(value);
  };
}

const interval = duration('1s', '7d');

export const schedule: Parser<Schedule> = (text) => {
  if (text.includes(' ')) return isCron(text) ? ok({ cron: text.trim() }) : no('not a cron expression of five fields');
  const parsed = interval(text);
  return 'value' in parsed ? ok({ everyMs: parsed.value }) : parsed;
};

export function noDataPolicy(...acts: readonly NoDataPolicy['act'][]): Parser<NoDataPolicy> {
  return (text) => {
    const [act, bound, ...rest] = text.split(':') as [string, string | undefined, ...string[]];
    if (rest.length > 0 || !acts.some((each) => each === act)) return no(`none of ${acts.map(formOf).join(', ')}`);
    const boundMs = bound === undefined ? undefined : parseDurationMs(bound);
    if (bound !== undefined && (boundMs === undefined || boundMs === 0)) {
      return no(`${JSON.stringify(bound.slice(0, 20))} is not a duration`);
    }
    if (act === 'older') return boundMs === undefined ? no('without an age') : ok({ act, ageMsMax: boundMs });
    if (act === 'block') return ok({ act, deadlineMs: boundMs });
    return bound === undefined ? ok({ act: 'empty' }) : no('"empty" takes no duration');
  };
}

function formOf(act: NoDataPolicy['act']): string {
  return act === 'empty' ? 'empty' : act === 'block' ? 'block, block:DURATION' : 'older:DURATION';
}

/** Commas between, or lines where there is more than one: then an item may hold commas. Nothing is empty, nothing is there twice. */
function list<Value>(each: Parser<Value>, countMax: number): Parser<readonly Value[]> {
  return (text) => {
    const parts = text.split(text.includes('\n') ? '\n' : ',').map((part) => part.trim());
    // A list that ends with a comma or a line is meant as it looks.
    if (parts.length > 1 && parts.at(-1) === '') parts.pop();
    if (parts.length > countMax) return no(`${parts.length} items, more than ${countMax}`);
    const values: Value[] = [];
    for (const [index, part] of parts.entries()) {
      if (part === '') return no('an item is empty');
      if (parts.indexOf(part) !== index) return no(`${JSON.stringify(part.slice(0, 63))} is there twice`);
      const parsed = each(part);
      if ('problem' in parsed) return no(`${JSON.stringify(part.slice(0, 63))} is ${parsed.problem}`);
      values.push(parsed.value);
    }
    return ok(values);
  };
}

const volumeName: Parser<VolumeName> = (text) => {
  try {
    return ok(toVolumeName(text));
  } catch (error) {
    if (!isHoldfastError(error, 'E_USAGE')) throw error;
    return no('not the name of a volume');
  }
};
export const volumeNames: Parser<readonly VolumeName[]> = list(volumeName, 16);

const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

export const name: Parser<string> = (text) => {
  return label.test(text) ? ok(text) : no('not a name of lower-case letters, digits and dashes');
};
export const names: Parser<readonly string[]> = list(name, 16);

export const globs: Parser<readonly string[]> = list((text) => {
  try {
    globExpression(text);
    return ok(text);
  } catch (error) {
    if (!isHoldfastError(error, 'E_USAGE')) throw error;
    return no('not a glob');
  }
}, 64);

const time = /^(\d{4})-(\d\d)-(\d\d)(?:[T ]([01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?)?(?:Z|[+-]\d\d:\d\d)?$/;

/** An id (6 digits and more; `id:` in front where all of them are decimal, as a slot would be) or a time. Never `latest`: it means another one each day. */
export const checkpointName: Parser<string> = (text) => {
  if (/^id:[0-9a-f]{6,64}$/.test(text) || (/^[0-9a-f]{6,64}$/.test(text) && !/^\d+$/.test(text))) return ok(text);
  const date = time.exec(text);
  if (date === null) return no('neither the id of a checkpoint nor a time');
  const [year, month, day] = date.slice(1, 4).map(Number) as [number, number, number];
  const at = new Date(Date.UTC(year, month - 1, day));
  return at.getUTCMonth() === month - 1 && at.getUTCDate() === day ? ok(text) : no('a day that does not exist');
};

export function integer(min: number, max: number): Parser<number> {
  return (text) => {
    const value = Number(text);
    return /^(?:0|[1-9]\d{0,9})$/.test(text) && value >= min && value <= max
      ? ok(value)
      : no(`not a whole number from ${min} to ${max}`);
  };
}

/** As it is written, since that is how it goes into the container. */
export const quantity: Parser<string> = (text) => {
  const value = parseQuantity(text);
  if (value === undefined) return no('not a quantity');
  return value > 0 ? ok(text) : no('nothing');
};

const reference = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,400}(?:@sha256:[0-9a-f]{64})?$/;

export const image: Parser<string> = (text) => (reference.test(text) ? ok(text) : no('not the name of an image'));

const part = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$/;

export const lineagePart: Parser<string> = (text) =>
  part.test(text) ? ok(text) : no('not made of letters, digits, dots, dashes and underscores');

const kindPattern = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const namePattern = /^[a-z0-9](?:[a-z0-9.-]{0,198}[a-z0-9])?$/;

/** Narrower than a lineage's parts, since the two name a Secret of Kubernetes as well (pod-layout.ts). */
export const workloadName: Parser<WorkloadName> = (text) => {
  const parts = text.split('/') as [string, string];
  if (parts.length !== 2) return no('not KIND/NAME');
  return isWorkloadName({ kind: parts[0], name: parts[1] })
    ? ok({ kind: parts[0], name: parts[1] })
    : no('not made of lower-case letters, digits, dashes, and in the name dots');
};

export function isWorkloadName({ kind, name }: WorkloadName): boolean {
  return kindPattern.test(kind) && namePattern.test(name);
}

/**
 * Where a hook of the application listens: HTTP inside the pod. Any other host would let who writes an annotation send requests
 * with the agent's place in the network.
 */
export const hookAddress: Parser<string> = (text) => {
  const match = /^http:\/\/(?:127\.0\.0\.1|localhost|\[::1\]):(\d{1,5})(\/[!-~]*)?$/.exec(text);
  const port = Number(match?.[1] ?? 0);
  return port >= 1 && port <= 65_535 ? ok(text) : no('not an address such as http://127.0.0.1:8080/path');
};
