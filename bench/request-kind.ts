import type { RequestCounts, RequestKind } from './rows.ts';

/** @returns what a request asks of an S3 server; @param url path and query */
export function requestKindOf(method: string, url: string): RequestKind {
  const { searchParams, pathname } = new URL(url, 'http://server');
  if (method === 'PUT') return searchParams.has('partNumber') ? 'PART' : 'PUT';
  if (method === 'POST')
    return searchParams.has('uploads') ? 'BEGIN' : searchParams.has('delete') ? 'DELETE' : 'COMPLETE';
  if (method === 'HEAD' || method === 'DELETE') return method;
  // Without a key it asks for what is in the bucket: objects, versions or unfinished uploads.
  const key = pathname.split('/').slice(2).join('/');
  return key === '' && !searchParams.has('location') ? 'LIST' : 'GET';
}

/** @returns how many requests create, change or delete something */
export function writesOf(requests: RequestCounts): number {
  const writing = ['PUT', 'PART', 'BEGIN', 'COMPLETE', 'DELETE'] as const;
  return writing.reduce((sum, kind) => sum + (requests[kind] ?? 0), 0);
}
