/**
 * IRSA and EKS Pod Identity put variables and a token into the containers that they see. Their webhooks may have run before ours, and
 * are not run again: so what they gave to a container of the application is copied. Secrets are never copied, only roles, places and tokens.
 */
import type { Credentials } from './decision.ts';
import { member } from './json.ts';
import type { Container, EnvVar, Pod } from './pod.ts';

const tokenFiles: ReadonlySet<string> = new Set([
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
]);
const copied: ReadonlySet<string> = new Set([
  ...tokenFiles,
  'AWS_ROLE_ARN',
  'AWS_ROLE_SESSION_NAME',
  'AWS_REGION',
  'AWS_DEFAULT_REGION',
  'AWS_STS_REGIONAL_ENDPOINTS',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
]);

/** Where both of them mount their tokens; a mount elsewhere could hide files of our own. */
const tokensBelow = '/var/run/secrets/';

/** Of the first container that has them; empty where none has. */
export function workloadCredentials(pod: Pod): Credentials {
  const projected = new Set(
    pod.volumes.filter(({ source }) => source.kind === 'other' && source.type === 'projected').map(({ name }) => name),
  );
  for (const container of [...pod.containers, ...pod.initContainers]) {
    const found = credentialsIn(container, projected);
    if (found !== undefined) return found;
  }
  return { env: [], mounts: [] };
}

function credentialsIn({ env, mounts }: Container, projected: ReadonlySet<string>): Credentials | undefined {
  // Of variables with the same name the last one counts.
  const last = [...new Map(env.map((each) => [each.name, each])).values()];
  const plain = last.filter((each) => copied.has(each.name) && textOf(each) !== undefined);
  const tokens = plain.filter(({ name }) => tokenFiles.has(name));
  const carried = mounts.filter(
    ({ volume, path, raw }) =>
      projected.has(volume) &&
      path.startsWith(tokensBelow) &&
      !path.split('/').includes('..') &&
      member(raw, 'subPathExpr') === undefined &&
      tokens.some((token) => textOf(token)?.startsWith(`${path.replace(/\/+$/, '')}/`)),
  );
  const readable = tokens.filter((token) =>
    carried.some(({ path }) => textOf(token)?.startsWith(`${path.replace(/\/+$/, '')}/`)),
  );
  return readable.length === 0 ? undefined : { env: plain, mounts: carried };
}

function textOf({ raw }: EnvVar): string | undefined {
  const value = member(raw, 'value');
  return typeof value === 'string' && value !== '' && member(raw, 'valueFrom') === undefined ? value : undefined;
}
