/** Cron expressions of five fields, as strictly as an admission webhook needs: what is accepted here, the agent can run. */

const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const days = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

interface Field {
  readonly min: number;
  readonly max: number;
  readonly names: readonly string[];
}

const fields: readonly Field[] = [
  { min: 0, max: 59, names: [] },
  { min: 0, max: 23, names: [] },
  { min: 1, max: 31, names: [] },
  { min: 1, max: 12, names: months },
  // Sunday is 0 and 7.
  { min: 0, max: 7, names: days },
];

/** Minute, hour, day of the month, month, day of the week; lists, ranges, steps, names of months and days. */
export function isCron(text: string): boolean {
  const parts = text.trim().split(/ +/);
  return parts.length === fields.length && fields.every((field, index) => isField(parts[index] as string, field));
}

function isField(text: string, field: Field): boolean {
  return text.split(',').every((part) => isPart(part, field));
}

function isPart(text: string, field: Field): boolean {
  const match = /^(\*|[0-9A-Z]{1,3})(?:-([0-9A-Z]{1,3}))?(?:\/(\d{1,2}))?$/i.exec(text);
  if (match === null) return false;
  const [, first, last, step] = match as unknown as readonly [string, string, string | undefined, string | undefined];
  if (step !== undefined && (Number(step) === 0 || Number(step) > field.max)) return false;
  if (first === '*') return last === undefined;
  const from = numberOf(first, field);
  if (from === undefined) return false;
  // A step needs something to step through.
  if (last === undefined) return step === undefined;
  const to = numberOf(last, field);
  return to !== undefined && from <= to;
}

function numberOf(text: string, { min, max, names }: Field): number | undefined {
  const named = names.indexOf(text.toUpperCase());
  if (named >= 0) return named + (names === months ? 1 : 0);
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}
