/** One review, from the bytes that the API server sent to the bytes that it gets. */
import { type AdmissionRequest, readReview, reviewVersion } from './admission-review.ts';
import { decide } from './decide.ts';
import type { Decision, Refusal } from './decision.ts';
import { type Json, type JsonObject, MalformedError } from './json.ts';
import { render } from './render.ts';
import type { WebhookSettings } from './settings.ts';

export type Answer =
  | {
      readonly kind: 'reviewed';
      readonly decision: Decision;
      readonly request: AdmissionRequest;
      readonly body: string;
    }
  | MalformedAnswer;

/** Not a review: answered with status 400. */
export interface MalformedAnswer {
  readonly kind: 'malformed';
  readonly message: string;
}

/** Clients cut longer ones, and drop those behind. */
const warningLengthMax = 256;
const refusalsShownMax = 8;

/** `namespaceAnnotations`: of the request's namespace, those with our prefix. */
export function respond(
  text: string,
  settings: WebhookSettings,
  namespaceAnnotations: Readonly<Record<string, string>> = {},
): Answer {
  const read = readRequest(text);
  return 'kind' in read ? read : answerRequest(read.request, settings, namespaceAnnotations);
}

/** The first half: what is asked. */
export function readRequest(text: string): { readonly request: AdmissionRequest } | MalformedAnswer {
  return orMalformed(() => ({ request: readReview(JSON.parse(text) as Json) }));
}

/** The second half: what is answered. */
export function answerRequest(
  request: AdmissionRequest,
  settings: WebhookSettings,
  namespaceAnnotations: Readonly<Record<string, string>>,
): Answer {
  return orMalformed(() => {
    const decision = decide(request, settings, namespaceAnnotations);
    const response = { uid: request.uid, ...responseOf(decision, request, settings) };
    const body = JSON.stringify({ apiVersion: reviewVersion, kind: 'AdmissionReview', response });
    return { kind: 'reviewed' as const, decision, request, body };
  });
}

function orMalformed<Result>(work: () => Result): Result | MalformedAnswer {
  try {
    return work();
  } catch (error) {
    if (error instanceof SyntaxError) return { kind: 'malformed', message: 'the body is not JSON' };
    if (error instanceof MalformedError) return { kind: 'malformed', message: error.message };
    // How V8 says that a document is nested more deeply than its stack is high.
    if (error instanceof RangeError) return { kind: 'malformed', message: 'the body is nested too deeply' };
    throw error;
  }
}

function responseOf(decision: Decision, request: AdmissionRequest, settings: WebhookSettings): object {
  switch (decision.kind) {
    case 'skip':
      return { allowed: true, ...warningsOf(decision.warnings) };
    case 'refuse':
      return {
        allowed: false,
        status: { code: 422, reason: 'Invalid', message: refusalText(decision.refusals) },
        auditAnnotations: { decision: 'refuse' },
      };
    case 'inject': {
      const { injection, warnings } = decision;
      const patch = render(request.object as JsonObject, injection, settings, warnings);
      return {
        allowed: true,
        ...warningsOf(warnings),
        ...(patch.length === 0
          ? {}
          : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') }),
        auditAnnotations: { decision: 'inject', lineage: injection.lineage.workload },
      };
    }
  }
}

function warningsOf(warnings: readonly string[]): { readonly warnings?: readonly string[] } {
  return warnings.length === 0
    ? {}
    : { warnings: warnings.map((each) => `holdfast: ${each}`.slice(0, warningLengthMax)) };
}

/** One sentence of what is wrong and one of what to do, for each. */
export function refusalText(refusals: readonly Refusal[]): string {
  const shown = refusals.slice(0, refusalsShownMax).map(({ annotation, value, reason, remedy }) => {
    const what = value === '' ? annotation : `${annotation} is ${JSON.stringify(value.slice(0, 120))}`;
    return `${what}: ${reason}. ${remedy}`;
  });
  const more = refusals.length - shown.length;
  return `holdfast: ${shown.join(' | ')}${more > 0 ? ` | and ${more} more` : ''}`;
}
