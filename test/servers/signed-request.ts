import { createHash, createHmac } from 'node:crypto';
import type { S3Server } from './s3-server.ts';

/** Sends a request signed as AWS does it (version 4), for what the S3 client of the SDK cannot ask. Returns the body; throws unless 2xx. */
export async function signedRequest(
  server: Pick<S3Server, 'endpoint' | 'accessKeyId' | 'secretAccessKey'>,
  request: {
    readonly method: string;
    /** With a query whose names are in order and encoded. */
    readonly path: string;
    readonly service: 's3' | 'sts' | 'iam';
    readonly body?: string;
    readonly contentType?: string;
  },
): Promise<string> {
  const { method, service, body = '', contentType = 'application/x-www-form-urlencoded' } = request;
  const url = new URL(request.path, server.endpoint);
  const time = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '');
  const scope = `${time.slice(0, 8)}/us-east-1/${service}/aws4_request`;
  const bodyHash = sha256(body);
  const headers: Record<string, string> = {
    'content-type': contentType,
    host: url.host,
    'x-amz-content-sha256': bodyHash,
    'x-amz-date': time,
  };
  const names = Object.keys(headers).sort();
  const canonical = [
    method,
    url.pathname,
    url.search.slice(1),
    ...names.map((name) => `${name}:${headers[name]}`),
    '',
    names.join(';'),
    bodyHash,
  ].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', time, scope, sha256(canonical)].join('\n');
  let key: Buffer = Buffer.from(`AWS4${server.secretAccessKey}`);
  for (const part of scope.split('/')) key = createHmac('sha256', key).update(part).digest();
  const signature = createHmac('sha256', key).update(toSign).digest('hex');
  const credential = `Credential=${server.accessKeyId}/${scope}`;
  const { host: _, ...sent } = headers;
  const answer = await fetch(url, {
    method,
    headers: {
      ...sent,
      authorization: `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${names.join(';')}, Signature=${signature}`,
    },
    ...(body === '' ? {} : { body }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${request.path}: HTTP ${answer.status} ${text}`);
  return text;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
