import { AssumeRoleCommand, STSClient } from '@aws-sdk/nested-clients/sts';
import type { Policy } from '../../src/contract/store-policies.ts';
import type { S3Server } from './s3-server.ts';

export interface RoleCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
}

/** Credentials on a MinIO server that may do what the policy says and nothing else. */
export async function assumeRole(server: S3Server, policy: Policy): Promise<RoleCredentials> {
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
