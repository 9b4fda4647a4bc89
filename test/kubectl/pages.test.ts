import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { load } from 'js-yaml';
import { expect, it } from 'vitest';
import { version } from '../../src/cli/version.ts';
import { kubectlCommands } from '../../src/kubectl/commands.ts';
import { kubectlHelp } from '../../src/kubectl/help.ts';
import { parseKubectl } from '../../src/kubectl/options.ts';
import { krewManifest } from '../../tools/krew.ts';
import { kubectlPage } from '../../tools/kubectl-page.ts';
import { runKubectl } from './run-kubectl.ts';

it('docs/kubectl.md is what the help says', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/kubectl.md'), 'utf8');
  expect(page, 'node tools/kubectl-page.ts').toBe(kubectlPage());
  const lines = kubectlPage().split('\n');
  for (const line of lines.filter((each) => !each.startsWith('|'))) expect(line.length, line).toBeLessThanOrEqual(180);
});

it.each(kubectlCommands.map((each) => [each.name, each] as const))(
  'examples of %s are commands that it takes',
  (name, each) => {
    for (const example of each.examples) {
      const [kubectl, plugin, command, ...args] = example.split(' ');
      expect([kubectl, plugin, command]).toEqual(['kubectl', 'holdfast', name]);
      expect(() => parseKubectl(name, each.options, args), example).not.toThrow();
    }
  },
);

it('says what it can do, its version, and what was probably meant', async () => {
  expect(await runKubectl(['help'])).toMatchObject({ code: 0, stdout: kubectlHelp() });
  expect(await runKubectl(['version'])).toMatchObject({ code: 0, stdout: `kubectl-holdfast ${version}\n` });
  expect(await runKubectl(['explan'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('did you mean explain?'),
  });
  expect(await runKubectl(['doctor', '--help'])).toMatchObject({ code: 0, stdout: expect.stringContaining('Usage:') });
});

it('the manifest for krew has the form that krew takes', () => {
  const sha256 = 'a'.repeat(64);
  const manifest = load(krewManifest({ version: '1.2.3', url: 'https://example.com/x.tar.gz', sha256 }));
  expect(manifest).toMatchObject({
    apiVersion: 'krew.googlecontainertools.github.com/v1alpha2',
    kind: 'Plugin',
    metadata: { name: 'holdfast' },
    spec: { version: 'v1.2.3' },
  });
  const { spec } = manifest as { spec: { shortDescription: string; platforms: object[] } };
  expect(spec.shortDescription.length).toBeLessThan(80);
  expect(spec.platforms).toHaveLength(4);
  for (const each of spec.platforms) expect(each).toMatchObject({ sha256, bin: 'bin/kubectl-holdfast' });
});
