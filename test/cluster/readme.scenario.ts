/** What README.md tells a new user to do with a cluster, as it stands there. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Site } from './harness/site.ts';
import { holdfastNamespace } from './scenario/holdfast.ts';

const checkout: string = join(import.meta.dirname, '../..');

test('the story of README.md: installed, annotated, deleted, and the data is there', () => {
  const site = Site.current();
  const readme = readFileSync(join(checkout, 'README.md'), 'utf8');
  const block = /^## In Kubernetes$.*?^```sh\n(.*?)^```$/ms.exec(readme)?.[1] ?? '';
  expect(block).toContain('helm install');
  const { store, image } = site.facts;
  const credentials = site.at('story-credentials');
  writeFileSync(
    credentials,
    `[default]\naws_access_key_id = ${store.accessKeyId}\naws_secret_access_key = ${store.secretAccessKey}\n`,
    { mode: 0o600 },
  );
  // Whoever reads it fills in their own.
  const own = {
    HOLDFAST_STORE: store.address.replace('/test?', `/story-${process.pid}?`),
    HOLDFAST_KEY_FILE: site.at('story.key'),
    HOLDFAST_IMAGE: image.slice(0, image.lastIndexOf(':')),
    HOLDFAST_TAG: image.slice(image.lastIndexOf(':') + 1),
    APP_IMAGE: image,
    AWS_SHARED_CREDENTIALS_FILE: credentials,
  };
  // Of scenarios before.
  const uninstall = [
    'helm',
    'uninstall',
    'holdfast',
    `--namespace=${holdfastNamespace}`,
    '--ignore-not-found',
    '--wait',
  ];
  site.run(uninstall);
  rmSync(own.HOLDFAST_KEY_FILE, { force: true });
  try {
    const printed = site.run(['sh', '-euc', `cd "${checkout}"; ${block}`], { env: own });
    expect(printed.trimEnd().split('\n').at(-1)).toBe('hello');
    expect(printed).toContain('"outcome":"restored"');
  } finally {
    site.run([
      'sh',
      '-c',
      'kubectl delete deployment/notes secret/holdfast-store secret/holdfast-key.deployment.notes; true',
    ]);
    site.run(uninstall);
  }
});
