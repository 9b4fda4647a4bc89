import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { PutBucketPolicyCommand, S3Client } from '@aws-sdk/client-s3';
import type { IamPolicy } from '../../src/contract/store-policies.ts';
import type { S3Server } from './s3-server.ts';
import { findServerProgram } from './server-programs.ts';
import { signedRequest } from './signed-request.ts';

export interface UserCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Empty for users that are there for good. */
  readonly sessionToken: string;
}

/**
 * A user of a server who may do what the policy says, and nothing else; each server by the means that it has. On versitygw it takes the
 * place of the one before, since what one file can keep of a bucket's policy is less than the policies of all roles. Throws
 * what the server says of a policy that it does not take.
 */
export async function makeUser(
  server: S3Server,
  bucket: string,
  name: string,
  policy: IamPolicy,
): Promise<UserCredentials> {
  const make = makers[server.name];
  if (make === undefined) throw new Error(`${server.name} has no users`);
  return await make(server, bucket, name, policy);
}

type Maker = (server: S3Server, bucket: string, name: string, policy: IamPolicy) => Promise<UserCredentials>;

const makers: Readonly<Partial<Record<S3Server['name'], Maker>>> = {
  /** Temporary credentials with the policy, as a web identity gets them. */
  async minio(server, _bucket, _name, policy) {
    const answer = await signedRequest(server, {
      method: 'POST',
      path: '/',
      service: 'sts',
      body: form({ Action: 'AssumeRole', Version: '2011-06-15', Policy: JSON.stringify(policy) }),
    });
    return credentialsIn(answer);
  },
  /** An account of the gateway, and a policy of the bucket that names it. */
  async versitygw(server, bucket, name, policy) {
    const accessKeyId = `${name.toUpperCase()}${randomBytes(4).toString('hex').toUpperCase()}`;
    const secretAccessKey = randomBytes(20).toString('hex');
    createGatewayUser(server, accessKeyId, secretAccessKey);
    const Statement = policy.Statement.map((statement) => ({ ...statement, Principal: { AWS: [accessKeyId] } }));
    const client = new S3Client({
      endpoint: server.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey },
    });
    try {
      const Policy = JSON.stringify({ Version: policy.Version, Statement });
      await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
    } finally {
      client.destroy();
    }
    return { accessKeyId, secretAccessKey, sessionToken: '' };
  },
  /** A user of its own IAM service. */
  async seaweedfs(server, _bucket, name, policy) {
    const ask = (params: Readonly<Record<string, string>>): Promise<string> =>
      signedRequest(server, {
        method: 'POST',
        path: '/',
        service: 'iam',
        body: form({ Version: '2010-05-08', UserName: name, ...params }),
      });
    await ask({ Action: 'CreateUser' });
    const credentials = credentialsIn(await ask({ Action: 'CreateAccessKey' }));
    const PolicyDocument = JSON.stringify(policy);
    await ask({ Action: 'PutUserPolicy', PolicyName: name, PolicyDocument });
    return credentials;
  },
};

function createGatewayUser(server: S3Server, access: string, secret: string): void {
  const { status, stderr } = spawnSync(
    findServerProgram('versitygw') ?? '',
    [
      'admin',
      '--endpoint-url',
      server.endpoint,
      'create-user',
      '--access',
      access,
      '--secret',
      secret,
      '--role',
      'user',
    ],
    {
      env: { ...process.env, ADMIN_ACCESS_KEY_ID: server.accessKeyId, ADMIN_SECRET_ACCESS_KEY: server.secretAccessKey },
      encoding: 'utf8',
    },
  );
  if (status !== 0) throw new Error(`versitygw made no user: ${stderr}`);
}

function form(params: Readonly<Record<string, string>>): string {
  return new URLSearchParams(params).toString();
}

function credentialsIn(xml: string): UserCredentials {
  const text = (name: string): string => new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? '';
  return {
    accessKeyId: text('AccessKeyId'),
    secretAccessKey: text('SecretAccessKey'),
    sessionToken: text('SessionToken'),
  };
}
