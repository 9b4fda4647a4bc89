/** AdmissionReview of admission.k8s.io/v1, as much of it as is needed. */
import { type Json, JsonReader, MalformedError } from './json.ts';

export interface AdmissionRequest {
  readonly uid: string;
  /** Group, version and kind of the object, such as `v1/Pod`. */
  readonly kind: string;
  /** `pods`, or with a subresource `pods/status`. */
  readonly resource: string;
  readonly operation: string;
  /** From the request's path: nothing in the object changes it. */
  readonly namespace: string;
  readonly object: Json | undefined;
}

export const reviewVersion = 'admission.k8s.io/v1';

/** MalformedError for anything that is no request to review. */
export function readReview(value: Json | undefined): AdmissionRequest {
  const review = new JsonReader(value, '');
  if (review.text('apiVersion') !== reviewVersion) throw new MalformedError('apiVersion', reviewVersion);
  if (review.text('kind') !== 'AdmissionReview') throw new MalformedError('kind', 'AdmissionReview');
  const request = review.object('request');
  if (request === undefined) throw new MalformedError('request', 'an object');
  const kind = request.object('kind');
  const resource = request.object('resource');
  const subResource = request.text('subResource') ?? '';
  return {
    uid: request.requiredText('uid'),
    kind: [kind?.text('group') ?? '', kind?.text('version') ?? '', kind?.text('kind') ?? '']
      .filter((part) => part !== '')
      .join('/'),
    resource: `${resource?.text('resource') ?? ''}${subResource === '' ? '' : `/${subResource}`}`,
    operation: request.text('operation') ?? '',
    namespace: request.text('namespace') ?? '',
    object: request.raw('object'),
  };
}
