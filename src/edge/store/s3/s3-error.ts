import { type ErrorCode, HoldfastError } from '../../../engine/model/errors.ts';
import type { StoreIntent } from '../store-error.ts';

/**
 * What a failed attempt means for the next one:
 * - `transient`: the network or the server failed, or the store is full until somebody makes room; it may have done what was asked.
 * - `throttled`: the same, and the store wants fewer requests.
 * - `expired`: nothing was done, because the credentials are no longer known; newer ones may be had by asking for them.
 * - `skewed`: nothing was done, perhaps because of the time in the signature; the SDK signs the next attempt with the store's own.
 * - `final`: another attempt would end the same way.
 */
export type Retry = 'transient' | 'throttled' | 'expired' | 'skewed' | 'final';

/** The facts of an error of the SDK, of Node's network or of TLS. */
export interface S3Failure {
  readonly retry: Retry;
  /** The server's own code such as NoSuchKey, else the errno, else the name of the error. */
  readonly reason: string;
  /** HTTP status; undefined where no answer came. */
  readonly status: number | undefined;
}

const throttlingReasons: ReadonlySet<string> = new Set([
  'SlowDown',
  'SlowDownRead',
  'SlowDownWrite',
  'Throttling',
  'ThrottlingException',
  'ThrottledException',
  'TooManyRequests',
  'TooManyRequestsException',
  'RequestLimitExceeded',
  'RequestThrottled',
  'RequestThrottledException',
  'BandwidthLimitExceeded',
  'XMinioServerNotInitialized',
]);

/** Refusals by a server that another attempt may get past. */
const transientReasons: ReadonlySet<string> = new Set([
  'BadDigest',
  'ConditionalRequestConflict',
  'IncompleteBody',
  'InternalError',
  'OperationAborted',
  'RequestTimeout',
  'ServiceUnavailable',
  'XAmzContentChecksumMismatch',
  'XAmzContentSHA256Mismatch',
]);

const fullReasons: ReadonlySet<string> = new Set([
  'InsufficientStorage',
  'QuotaExceeded',
  'XMinioAdminBucketQuotaExceeded',
  'XMinioStorageFull',
  'StorageFull',
]);

/** Servers that keep objects in directories say so where a key lies below another. */
const notAnObjectReasons: ReadonlySet<string> = new Set([
  'ExistingObjectIsDirectory',
  'ExistingObjectIsFile',
  'ObjectParentIsFile',
  'XMinioParentIsObject',
]);

/** Servers say so of credentials that have expired or were revoked; MinIO forgets such a key altogether. */
const expiredReasons: ReadonlySet<string> = new Set([
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidAccessKeyId',
  'InvalidToken',
  'InvalidTokenId',
  'TokenRefreshRequired',
]);

const credentialReasons: ReadonlySet<string> = new Set([
  ...expiredReasons,
  'CredentialsProviderError',
  'InvalidIdentityToken',
  'InvalidIdentityTokenException',
  'SignatureDoesNotMatch',
  'XAdminUserNotFound',
]);

const networkReasons: ReadonlySet<string> = new Set([
  'EAI_AGAIN',
  'EAI_NODATA',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'EMFILE',
  'ENETDOWN',
  'ENETUNREACH',
  'ENOBUFS',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
  'ERR_SOCKET_CLOSED',
  'ERR_STREAM_PREMATURE_CLOSE',
  'HPE_INVALID_CONSTANT',
  'HPE_INVALID_CHUNK_SIZE',
  'RequestTimeout',
  'TimeoutError',
  'TruncatedBody',
]);

/** A server or proxy whose certificate nobody here vouches for. */
const tlsReason =
  /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_|ERR_SSL_|EPROTO$|HOSTNAME_MISMATCH|INVALID_CA|CA_)/;

/** Reads what failed out of any error of an attempt. */
export function failureOf(error: unknown): S3Failure {
  const status = statusOf(error);
  const reason = reasonOf(error);
  return { retry: retryOf(error, reason, status), reason, status };
}

/** The object that was to be created exists: 412 of a conditional write. */
export function isPreconditionFailed(error: unknown): boolean {
  const { status, reason } = failureOf(error);
  return status === 412 || reason === 'PreconditionFailed';
}

/**
 * There is no such object, by name. The status alone is not believed: versitygw answers 404 to a key that it does not know,
 * a wrong address may be that of any web server, and an absent object may mean a first start.
 */
export function isMissingObject(error: unknown): boolean {
  const { reason } = failureOf(error);
  return reason === 'NoSuchKey' || reason === 'NoSuchVersion';
}

/** A head that has no object; without a body, so that it cannot say what is missing. */
export function isMissingHead(error: unknown): boolean {
  return failureOf(error).status === 404;
}

/** A range that begins behind the end of the object. */
export function isBadRange(error: unknown): boolean {
  const { status, reason } = failureOf(error);
  return status === 416 || reason === 'InvalidRange';
}

/** The error of the store port for what an attempt threw; a HoldfastError passes as it is. */
export function toS3Error(
  error: unknown,
  doing: string,
  intent: StoreIntent,
  details: Readonly<Record<string, unknown>> = {},
): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const failure = failureOf(error);
  const { reason, status } = failure;
  const requestId = requestIdOf(error);
  const { code, remedy } = reactionTo(failure, intent, error);
  const said = status === undefined ? reason : `${reason}, HTTP ${status}`;
  return new HoldfastError(code, `the S3 store failed while ${doing} (${said})`, {
    cause: error,
    details: {
      ...details,
      reason,
      ...(status === undefined ? {} : { status }),
      ...(requestId === undefined ? {} : { requestId }),
    },
    ...(remedy === undefined ? {} : { remedy }),
  });
}

interface Reaction {
  readonly code: ErrorCode;
  /** Undefined: the one of the code. */
  readonly remedy?: string;
}

function reactionTo({ retry, reason, status }: S3Failure, intent: StoreIntent, error: unknown): Reaction {
  if (reason === 'NoSuchBucket') {
    return {
      code: 'E_STORE_UNREACHABLE',
      remedy:
        'Check the name of the bucket, the region and the endpoint; holdfast init makes a bucket that is missing.',
    };
  }
  if (isFull(reason, status)) return { code: 'E_STORE_FULL' };
  if (notAnObjectReasons.has(reason)) {
    return {
      code: 'E_DAMAGED',
      remedy: 'Something other than Holdfast has written below the prefix of the store; move that object out of it.',
    };
  }
  if (credentialReasons.has(reason)) {
    return {
      code: 'E_STORE_CREDENTIALS',
      ...(reason === 'CredentialsProviderError'
        ? {
            remedy:
              'No credentials were found: give a web identity, an instance role, ~/.aws/credentials or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.',
          }
        : {}),
    };
  }
  if (reason === 'RequestTimeTooSkewed') {
    return {
      code: 'E_STORE_UNREACHABLE',
      remedy: 'The clock of this machine differs from that of the store by more than 15 minutes; set it right.',
    };
  }
  if (tlsReason.test(reason)) {
    return {
      code: 'E_STORE_UNREACHABLE',
      remedy:
        'The certificate of the store is not trusted here: name its CA by ca-file=FILE in the address, HOLDFAST_S3_CA_FILE or AWS_CA_BUNDLE.',
    };
  }
  if (status === 301 || status === 307 || reason === 'AuthorizationHeaderMalformed' || reason === 'PermanentRedirect') {
    const region = regionNamedBy(error);
    return {
      code: 'E_USAGE',
      remedy: `The bucket lies in another region: give ${region === undefined ? 'region=REGION' : `region=${region}`} in the address of the store.`,
    };
  }
  if (/^Region is missing/.test(messageOf(error))) {
    return { code: 'E_USAGE', remedy: 'Give region=REGION in the address of the store, or AWS_REGION.' };
  }
  if (status === 401 || status === 403) {
    return intent === 'read'
      ? {
          code: 'E_STORE_UNREACHABLE',
          remedy: 'These credentials may not read: allow s3:GetObject on the prefix and s3:ListBucket on the bucket.',
        }
      : {
          code: 'E_STORE_READ_ONLY',
          remedy: 'These credentials may not write: allow s3:PutObject and s3:AbortMultipartUpload on the prefix.',
        };
  }
  if (reason === 'NotImplemented' || status === 501) {
    return {
      code: 'E_UNFENCED',
      remedy: 'This server lacks an operation that Holdfast needs, perhaps create-only writes; use another store.',
    };
  }
  if (reason === 'EntityTooLarge' || status === 413) return { code: 'E_LIMIT' };
  if (reason === 'EMFILE') return { code: 'E_LIMIT' };
  if (reason === 'InvalidObjectState') {
    return {
      code: 'E_STORE_IO',
      remedy:
        'The object has been moved to an archive class; restore it there first, and exempt the prefix from that rule.',
    };
  }
  // No answer, or none of the store itself.
  if (status === undefined && networkReasons.has(reason)) return { code: 'E_STORE_UNREACHABLE' };
  if (status === 502 || status === 503 || status === 504 || retry === 'throttled') {
    return { code: 'E_STORE_UNREACHABLE' };
  }
  if (status === undefined && !(error instanceof Error && '$metadata' in error)) return { code: 'E_INTERNAL' };
  return { code: 'E_STORE_IO' };
}

function retryOf(error: unknown, reason: string, status: number | undefined): Retry {
  if (throttlingReasons.has(reason) || status === 429) return 'throttled';
  if (status === 501) return 'final';
  if (transientReasons.has(reason) || isFull(reason, status)) return 'transient';
  // AWS refuses a HEAD with expired credentials by 400, and a HEAD has no body to say why.
  if (expiredReasons.has(reason) || reason === 'HTTP 400') return 'expired';
  // The SDK has learned the store's time from the refusal and signs the next attempt with it.
  if (reason === 'RequestTimeTooSkewed') return 'skewed';
  // A HEAD has no body to say that it was refused for its time: all that is seen then is that the clocks are minutes apart.
  if (reason === 'HTTP 403' && clockCorrected(error)) return 'skewed';
  // Also when the head of an answer has come: what it refuses is in a body that has not.
  if (networkReasons.has(reason)) return 'transient';
  if (status !== undefined) return status === 408 || status >= 500 ? 'transient' : 'final';
  return 'final';
}

function isFull(reason: string, status: number | undefined): boolean {
  return fullReasons.has(reason) || status === 507;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  const { name } = error;
  if (name !== 'Error' && name !== 'AggregateError' && statusOf(error) !== undefined) {
    const said = 'Code' in error && typeof error.Code === 'string' ? error.Code : name;
    return said === 'Unknown' || said === 'UnknownError' ? `HTTP ${statusOf(error)}` : said;
  }
  if ('code' in error && typeof error.code === 'string') return error.code;
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (error.message === 'aborted' || error.message === 'socket hang up') return 'ECONNRESET';
  return name;
}

function statusOf(error: unknown): number | undefined {
  const metadata = metadataOf(error);
  const status = metadata?.['httpStatusCode'];
  return typeof status === 'number' ? status : undefined;
}

function requestIdOf(error: unknown): string | undefined {
  const id = metadataOf(error)?.['requestId'];
  return typeof id === 'string' ? id : undefined;
}

/** By the answer the store's clock is minutes from ours. The SDK says so in its errors. */
function clockCorrected(error: unknown): boolean {
  return metadataOf(error)?.['clockSkewCorrected'] === true;
}

function metadataOf(error: unknown): Readonly<Record<string, unknown>> | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata;
  return typeof metadata === 'object' && metadata !== null ? (metadata as Record<string, unknown>) : undefined;
}

function regionNamedBy(error: unknown): string | undefined {
  const region = error instanceof Error && 'Region' in error ? error.Region : undefined;
  return typeof region === 'string' ? region : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : '';
}
