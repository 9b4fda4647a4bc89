import { join } from 'node:path';
import { findServerProgram } from '../../servers/server-programs.ts';
import { controlPlaneAddress } from './network.ts';
import { until } from './processes.ts';
import type { Site } from './site.ts';

const name = 'store';
const address = `${controlPlaneAddress}:9000`;

/** Of a store beside the control plane, where pods and people reach it. */
export const storeAddress: string = `s3://checkpoints/test?endpoint=http://${address}&region=us-east-1`;

/** Starts MinIO there, for the first time or again, and waits until it answers. */
export async function startStore({ own, facts }: Site): Promise<void> {
  const program = findServerProgram('minio');
  if (program === undefined || own === undefined) throw new Error('MinIO is not installed: npm run servers minio');
  const { accessKeyId, secretAccessKey } = facts.store;
  const at = ['--address', address, '--console-address', '127.0.0.1:0', join(facts.place, 'objects')];
  await own.startOther(name, [program, 'server', '--quiet', ...at], {
    MINIO_ROOT_USER: accessKeyId,
    MINIO_ROOT_PASSWORD: secretAccessKey,
    MINIO_BROWSER: 'off',
    HOME: facts.place,
  });
  await until('the store', 60, () => {
    try {
      own.run(['curl', '--silent', '--fail', `http://${address}/minio/health/live`]);
      return true;
    } catch {
      return undefined;
    }
  });
}

export async function endStore({ own }: Site): Promise<void> {
  await own?.endOther(name);
}
