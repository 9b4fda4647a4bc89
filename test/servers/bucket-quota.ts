import type { S3Server } from './s3-server.ts';
import { signedRequest } from './signed-request.ts';

/** Lets a bucket on a MinIO server have so many bytes and no more, by its admin API; 0 takes the bound away. */
export async function setBucketQuota(server: S3Server, bucket: string, bytes: number): Promise<void> {
  await signedRequest(server, {
    method: 'PUT',
    path: `/minio/admin/v3/set-bucket-quota?bucket=${bucket}`,
    service: 's3',
    body: JSON.stringify({ quota: bytes, size: bytes, quotatype: 'hard' }),
    contentType: 'application/json',
  });
}
