import { createHash, createHmac } from 'node:crypto';
import { AssumeRoleCommand, STSClient } from '@aws-sdk/nested-clients/sts';
import { SignatureV4 } from '@smithy/signature-v4';
import type { IamPolicy } from '../../src/contract/store-policies.ts';
import type { S3Server } from './s3-server.ts';

export interface RoleCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
}

/** Credentials on a MinIO server that may do what the policy says and nothing else. */
export async function assumeRole(server: S3Server, policy: IamPolicy): Promise<RoleCredentials> {
  const { endpoint, accessKeyId, secretAccessKey } = server;
  const client = new STSClient({ endpoint, region: 'us-east-1', credentials: { accessKeyId, secretAccessKey } });
  try {
    const { Credentials: made } = await client.send(
      new AssumeRoleCommand({
        RoleArn: 'arn:aws:iam::000000000000:role/test',
        RoleSessionName: 'test',
        Policy: JSON.stringify(policy),
      }),
    );
    const { AccessKeyId = '', SecretAccessKey = '', SessionToken = '' } = made ?? {};
    return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken };
  } finally {
    client.destroy();
  }
}

/** Ends all credentials that assumeRole has made on a MinIO server: they live for 15 minutes at least. */
export async function revokeRoles(server: S3Server): Promise<void> {
  const { endpoint, port, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const signer = new SignatureV4({ service: 's3', region: 'us-east-1', credentials, sha256: Sha256 });
  const path = '/minio/admin/v3/revoke-tokens/builtin';
  const { headers } = await signer.sign({
    method: 'POST',
    protocol: 'http:',
    hostname: '127.0.0.1',
    port,
    path,
    query: { fullRevoke: 'true' },
    headers: { host: `127.0.0.1:${port}` },
  });
  const { host: _, ...others } = headers;
  const reply = await fetch(`${endpoint}${path}?fullRevoke=true`, { method: 'POST', headers: others });
  if (!reply.ok) throw new Error(`MinIO does not revoke: HTTP ${reply.status} ${await reply.text()}`);
}

class Sha256 {
  readonly #sum;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#sum = secret === undefined ? createHash('sha256') : createHmac('sha256', secret as string | Uint8Array);
  }

  update(bytes: Uint8Array): void {
    this.#sum.update(bytes);
  }

  async digest(): Promise<Uint8Array> {
    return new Uint8Array(this.#sum.digest());
  }

  reset(): void {}
}
