/**
 * What happens when there is no data to begin with. There are three different answers to that, and each has a policy of its
 * own: never existed (first boot), expected but missing or damaged, store unreachable.
 */
import { type NoDataPolicy, noDataPolicy, type ParsedValue } from '../../contract/annotation-parsers.ts';
import { HoldfastError, isHoldfastError } from '../../engine/model/errors.ts';

export type NoDataAnswer = 'first-boot' | 'missing' | 'unreachable';

/** As it was given, too. `older` without such a checkpoint is as `block`. */
export type DataPolicy = NoDataPolicy & { readonly text: string };

export type DataPolicies = Readonly<Record<NoDataAnswer, DataPolicy>>;

export const defaultPolicies: DataPolicies = {
  'first-boot': { act: 'empty', text: 'empty' },
  missing: { act: 'block', deadlineMs: undefined, text: 'block' },
  unreachable: { act: 'block', deadlineMs: undefined, text: 'block' },
};

const forFirstBoot = noDataPolicy('empty', 'block');
const forLost = noDataPolicy('empty', 'block', 'older');

/** `empty`, `block`, `block:10m`, `older:1h`; `older` means nothing where there never was anything. */
export function parseDataPolicy(answer: NoDataAnswer, text: string): ParsedValue<DataPolicy> {
  const parsed = (answer === 'first-boot' ? forFirstBoot : forLost)(text);
  return 'problem' in parsed ? parsed : { value: { ...parsed.value, text } };
}

/** Which answer an error is; undefined when no policy decides what it means, such as a wrong key or a full target. */
export function answerOf(error: unknown): NoDataAnswer | undefined {
  if (isHoldfastError(error, 'E_NOT_FOUND')) return 'first-boot';
  if (isHoldfastError(error, 'E_EXPECTED_MISSING', 'E_DAMAGED', 'E_HOSTILE', 'E_LOST')) return 'missing';
  // A store without its repository object is unreachable or wrong, never a first boot.
  const unreachable = [
    'E_STORE_UNREACHABLE',
    'E_STORE_IO',
    'E_STORE_CREDENTIALS',
    'E_STORE_FULL',
    'E_STORE_READ_ONLY',
    'E_REPOSITORY_MISSING',
  ] as const;
  return isHoldfastError(error, ...unreachable) ? 'unreachable' : undefined;
}

export type NextStep =
  | { readonly step: 'wait'; readonly ms: number }
  | { readonly step: 'empty' | 'older' | 'give-up' };

const waitMsMin = 500;
const waitMsMax = 15_000;

/** What to do after `waitedMs` of this answer. `olderTried`: there is no checkpoint that `older` allows. */
export function nextStep(policy: DataPolicy, waitedMs: number, olderTried: boolean): NextStep {
  if (policy.act === 'empty') return { step: 'empty' };
  if (policy.act === 'older' && !olderTried) return { step: 'older' };
  // The longer it lasts, the less often it is looked at.
  const ms = Math.min(Math.max(waitedMs / 4, waitMsMin), waitMsMax);
  const leftMs = policy.act === 'block' && policy.deadlineMs !== undefined ? policy.deadlineMs - waitedMs : ms;
  return leftMs <= 0 ? { step: 'give-up' } : { step: 'wait', ms: Math.min(ms, leftMs) };
}

const names: Readonly<Record<NoDataAnswer, string>> = {
  'first-boot': 'nothing was ever stored',
  missing: 'the data is missing or damaged',
  unreachable: 'the store cannot be reached',
};

const options: Readonly<Record<NoDataAnswer, string>> = {
  'first-boot': '--on-first-boot',
  missing: '--on-missing',
  unreachable: '--on-unreachable',
};

/** A deadline has passed: the container fails, and nothing starts. */
export function blocked(
  answer: NoDataAnswer,
  policy: DataPolicy,
  lineage: string,
  cause: HoldfastError,
): HoldfastError {
  return new HoldfastError(
    'E_BLOCKED',
    `${lineage}: ${names[answer]} (${cause.code}: ${cause.message}), and ${options[answer]} ${policy.text} lets nothing start`,
    {
      cause,
      details: { lineage, answer, policy: policy.text, code: cause.code },
      remedy: `${cause.remedy} Or choose what to start with: ${options[answer]} empty${
        answer === 'first-boot' ? '' : ', or older:DURATION for an older checkpoint'
      }.`,
    },
  );
}

export function describeAnswer(answer: NoDataAnswer): string {
  return names[answer];
}
