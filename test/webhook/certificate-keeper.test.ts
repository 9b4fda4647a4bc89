import { afterEach, beforeEach, expect, it } from 'vitest';
import { InClusterApi, inClusterPlaces } from '../../src/edge/kube/in-cluster-api.ts';
import * as inspect from '../../src/edge/host/inspect-certificate.ts';
import * as make from '../../src/edge/host/make-certificate.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import { CertificateKeeper } from '../../src/webhook/certificate-keeper.ts';
import { KubeServer } from '../support/kube-server.ts';

const secretPath = '/api/v1/namespaces/holdfast/secrets/webhook-tls';
const configurationPath = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/a.holdfast.dev';
const name = 'holdfast-webhook.holdfast.svc';
const dayMs = 86_400_000;
const never = new AbortController().signal;

let kube: KubeServer;
let nowMs: number;
const said: string[] = [];
beforeEach(async () => {
  nowMs = Date.now();
  said.length = 0;
  kube = await KubeServer.start();
  // As the chart renders them: nothing in the Secret, no CA in the configuration.
  kube.put(secretPath, { kind: 'Secret', metadata: { name: 'webhook-tls' }, type: 'Opaque' });
  kube.put(configurationPath, {
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'a.holdfast.dev' },
    webhooks: [{ name: 'inject.holdfast.dev', clientConfig: { service: { name: 'holdfast-webhook' } } }],
  });
});
afterEach(() => kube[Symbol.asyncDispose]());

function keeperOf(): CertificateKeeper {
  return new CertificateKeeper(
    {
      // Time passes when a test says so, and while somebody waits.
      clock: {
        nowMs: () => nowMs,
        monotonicMs: () => nowMs,
        async wait(ms) {
          nowMs += ms;
        },
      },
      api: new InClusterApi(inClusterPlaces(kube.env)),
      tools: { ...make, ...inspect },
      say: (event) => said.push(event),
    },
    {
      namespace: 'holdfast',
      secret: 'webhook-tls',
      configuration: 'a.holdfast.dev',
      name,
      validityMs: 90 * dayMs,
    },
  );
}

function trusted(): string {
  const bundle = kube.objects.get(configurationPath)?.['webhooks'][0].clientConfig.caBundle as string | undefined;
  return Buffer.from(bundle ?? '', 'base64').toString();
}

/** Whether who trusts `bundle` would speak to a server with this now. */
function isTrustedBy(bundle: string, { cert, key }: { readonly cert: string; readonly key: string }): boolean {
  return inspect.validAuthorities(bundle, nowMs).some((authority) => {
    const found = inspect.inspectServerCertificate({ cert, key }, { name, authority });
    return found !== undefined && found.validFromMs <= nowMs && nowMs < found.validUntilMs;
  });
}

/** The same of the API server, which trusts what stands in the configuration. */
function isTrusted(served: { readonly cert: string; readonly key: string }): boolean {
  return isTrustedBy(trusted(), served);
}

it('two that start at once agree on one certificate, which is trusted before either serves', async () => {
  const [a, b] = [keeperOf(), keeperOf()];
  await Promise.all([a.start(never), b.start(never)]);
  const [served, other] = [await a.read(), await b.read()];
  expect(served).toEqual(other);
  expect(isTrusted(served)).toBe(true);
  expect(said.filter((event) => event === 'made')).toHaveLength(1);
  expect(said).not.toContain('waiting');
  expect(Object.keys(kube.secret(secretPath)).sort()).toEqual([
    'authority.crt',
    'authority.key',
    'ca.crt',
    'tls.crt',
    'tls.key',
  ]);
});

it('one that comes later takes what is there', async () => {
  await keeperOf().start(never);
  const before = kube.secret(secretPath);
  const later = keeperOf();
  await later.start(never);
  expect((await later.read()).cert).toBe(before['tls.crt']);
  expect(kube.secret(secretPath)).toEqual(before);
});

it('for twelve years every replica is trusted at every moment, by the API server and by pods that were told long ago', async () => {
  const keepers = [keeperOf(), keeperOf(), keeperOf()];
  for (const keeper of keepers) await keeper.start(never);
  const seen = new Set<string>();
  // A pod that is created now trusts what it is given now, as long as it lives: up to half a year.
  const told: { readonly atMs: number; readonly bundle: string }[] = [];
  for (let round = 0; round < (12 * 365) / 4; round++) {
    nowMs += 4 * dayMs;
    // One replica looks at a time; each of the others is up to eight days behind.
    const keeper = keepers[round % keepers.length] as CertificateKeeper;
    await keeper.look(never);
    told.push({ atMs: nowMs, bundle: await keeper.readAuthorities() });
    while ((told[0]?.atMs ?? nowMs) < nowMs - 180 * dayMs) told.shift();
    for (const each of keepers) {
      const served = await each.read();
      seen.add(served.cert);
      expect(isTrusted(served), `round ${round}`).toBe(true);
      expect(isTrustedBy(told[0]?.bundle ?? '', served), `round ${round}`).toBe(true);
    }
    expect((trusted().match(/BEGIN CERTIFICATE/g) ?? []).length).toBeLessThanOrEqual(2);
  }
  expect(said.filter((event) => event === 'promoted')).toHaveLength(1);
  expect(seen.size).toBeGreaterThan(60);
});

it('puts back what is served when somebody empties the Secret, or takes the CA away', async () => {
  const keeper = keeperOf();
  await keeper.start(never);
  const served = await keeper.read();
  kube.put(secretPath, { kind: 'Secret', metadata: { name: 'webhook-tls' } });
  kube.put(configurationPath, {
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'a.holdfast.dev' },
    webhooks: [
      { name: 'another.example.com', clientConfig: { service: { name: 'holdfast-webhook' } } },
      { name: 'inject.holdfast.dev', clientConfig: { service: { name: 'holdfast-webhook' }, caBundle: 'eA==' } },
    ],
  });
  await keeper.look(never);
  expect(await keeper.read()).toEqual(served);
  expect(kube.secret(secretPath)['tls.crt']).toBe(served.cert);
  const webhooks = kube.objects.get(configurationPath)?.['webhooks'] ?? [];
  expect(webhooks).toHaveLength(2);
  for (const webhook of webhooks) {
    expect(Buffer.from(webhook.clientConfig.caBundle, 'base64').toString()).toBe(kube.secret(secretPath)['ca.crt']);
  }
});

it.each([
  ['a certificate for another name', { names: ['elsewhere.svc'] }],
  ['one that has expired', { validUntilMs: 1000 }],
])('replaces %s', async (_, wish) => {
  const times = { validFromMs: 0, validUntilMs: nowMs + 2000 * dayMs };
  const authority = make.makeAuthority(times);
  const server = make.makeServerCertificate(authority, { names: [name], ...times, ...wish });
  const data = {
    'ca.crt': authority.cert,
    'authority.crt': authority.cert,
    'authority.key': authority.key,
    'tls.crt': server.cert,
    'tls.key': server.key,
  };
  kube.put(secretPath, {
    kind: 'Secret',
    metadata: { name: 'webhook-tls' },
    data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')])),
  });
  const keeper = keeperOf();
  await keeper.start(never);
  const served = await keeper.read();
  expect(served.cert).not.toBe(server.cert);
  expect(isTrusted(served)).toBe(true);
  expect(await keeper.readAuthorities()).toBe(authority.cert);
});

it('waits for a right that is missing, says which one, and goes on when it is given', async () => {
  kube.mayDo = (method) => method !== 'PATCH';
  const keeper = keeperOf();
  await keeper.look(never);
  const failure = await keeper.read().then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(HoldfastError);
  expect(failure).toMatchObject({
    code: 'E_CLUSTER_REFUSED',
    message: expect.stringContaining('patch the MutatingWebhookConfiguration a.holdfast.dev (status 403)'),
  });
  let refusals = 0;
  kube.mayDo = (method) => method !== 'PATCH' || ++refusals > 3;
  await keeper.start(never);
  expect(isTrusted(await keeper.read())).toBe(true);
  expect(said).toContain('waiting');
});

it('asks for the Secret and the configuration, and for nothing else', async () => {
  await keeperOf().start(never);
  expect(kube.requests.length).toBeGreaterThan(3);
  expect(kube.requests.every(({ path }) => path === secretPath || path === configurationPath)).toBe(true);
});
