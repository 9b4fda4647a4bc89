import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { parseOptions } from '../../src/cli/options.ts';
import { version } from '../../src/cli/version.ts';
import { annotationPrefix } from '../../src/contract/annotations.ts';
import { agentContainer, rehydrateContainer } from '../../src/contract/pod-layout.ts';
import { parseSettings } from '../../src/webhook/settings.ts';
import { digestNow, readDigest, readRender, renderNames } from './golden.ts';

const chart = join(import.meta.dirname, '../../charts/holdfast');

it('its renders were made from the chart as it is now', () => {
  expect(digestNow(), 'look at what changes, then: node test/charts/golden.ts').toBe(readDigest());
});

it('has the version of the program', () => {
  expect(readFileSync(join(chart, 'Chart.yaml'), 'utf8')).toContain(`appVersion: ${version}\n`);
});

/** The text of a block that follows `key: |`. */
function blockOf(yaml: string, key: string): string {
  const lines = yaml.split('\n');
  const at = lines.findIndex((line) => line.trim() === `${key}: |`);
  const indent = /^ */.exec(lines[at + 1] ?? '')?.[0].length ?? 0;
  const end = lines.findIndex(
    (line, index) => index > at && line.trim() !== '' && !line.startsWith(' '.repeat(indent)),
  );
  return lines.slice(at + 1, end).join('\n');
}

/** Items of the list that follows `key:`, plain or quoted. */
function listOf(yaml: string, key: string): readonly string[] {
  const lines = yaml.split('\n').map((line) => line.trim());
  const at = lines.indexOf(`${key}:`);
  const items: string[] = [];
  for (const line of lines.slice(at + 1)) {
    if (!line.startsWith('- ')) break;
    items.push(line.slice(2).replace(/^(["'])(.*)\1$/, '$2'));
  }
  return items;
}

describe.each(renderNames)('rendered with the values %s', (name) => {
  const yaml = readRender(name);

  it('gives the webhook settings that it takes', () => {
    const settings = parseSettings(blockOf(yaml, 'settings.json'));
    expect(settings.cluster).toMatch(/^prod/);
    expect(settings.stores.size).toBeGreaterThan(0);
  });

  it('starts the webhook with options that it has', () => {
    const command = commands.find((each) => each.name === 'webhook');
    const parsed = parseOptions('webhook', command?.options ?? [], listOf(yaml, 'args'), {});
    for (const option of ['settings', 'tls-cert', 'tls-key', 'listen'] as const)
      expect(parsed.required(option)).not.toBe('');
    expect(yaml).toContain(`containerPort: ${parsed.required('listen').split(':')[1]}`);
  });

  it('asks about pods that speak of injection, at the path that the webhook answers', () => {
    expect(yaml).toContain(`'${annotationPrefix}inject' in object.metadata.annotations`);
    expect(yaml).toContain('path: /mutate\n');
  });

  it('holds no secret, no right, and nothing that differs from one render to the next', () => {
    expect(yaml).not.toMatch(/^kind: (Secret|Role|ClusterRole|RoleBinding|ClusterRoleBinding)$/m);
    expect(yaml).toContain('automountServiceAccountToken: false');
  });
});

it('holds the end result where the webhook must not be missed', () => {
  expect(readRender('least')).toContain('kind: ValidatingAdmissionPolicy\n');
  expect(readRender('least')).toContain(`c.name == '${agentContainer}'`);
  expect(readRender('least')).toContain(`c.name == '${rehydrateContainer}'`);
  expect(readRender('everything')).not.toContain('kind: ValidatingAdmissionPolicy\n');
});

it('its schema knows the members of a store that the settings know, and no others', () => {
  const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8'));
  const members = Object.keys(schema.properties.stores.additionalProperties.properties);
  const settingsWith = (more: object): string =>
    JSON.stringify({
      cluster: 'c',
      image: 'i',
      stores: { default: { address: 's3://b', namespaces: ['*'], ...more } },
    });
  for (const member of members) {
    // A wrong type is refused as such; an unknown member as one that does not exist.
    expect(() => parseSettings(settingsWith({ [member]: [[]] }))).not.toThrow(/a setting that exists/);
  }
  const page = readFileSync(join(import.meta.dirname, '../../docs/kubernetes.md'), 'utf8');
  const table = page.split('| setting of a store |')[1]?.split('\n\n')[0] ?? '';
  const documented = [...table.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap(([, names]) =>
    [...(names as string).matchAll(/`([A-Za-z]+)`/g)].map(([, each]) => each),
  );
  expect(documented.toSorted()).toEqual(members.toSorted());
});
