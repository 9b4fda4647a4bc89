/** The examples, by the code that decides in a cluster. That they run is for test/cluster. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAll } from 'js-yaml';
import { describe, expect, it } from 'vitest';
import { explainPod } from '../../src/kubectl/explanation.ts';
import { manifestsIn, podsOfManifest } from '../../src/kubectl/manifest-pods.ts';
import { textAt } from '../../src/kubectl/objects.ts';
import type { Json, JsonObject } from '../../src/webhook/json.ts';
import { settingsOf } from '../webhook/pods.ts';

const directory = join(import.meta.dirname, '../../examples/kubernetes');
const files = readdirSync(directory).filter((file) => file.endsWith('.yaml'));
const page = readFileSync(join(directory, 'README.md'), 'utf8');

function manifestsOf(file: string): readonly JsonObject[] {
  return manifestsIn(loadAll(readFileSync(join(directory, file), 'utf8')) as readonly Json[]);
}

it('the page names every example, and no other', () => {
  const named = [...page.matchAll(/^\| \[([a-z-]+\.yaml)\]\(\1\)/gm)].map(([, file]) => file);
  expect(named.toSorted()).toEqual(files.toSorted());
});

describe.each(files)('%s', (file) => {
  const manifests = manifestsOf(file);
  const pods = manifests.flatMap((manifest) => {
    const reading = podsOfManifest(manifest);
    return reading.kind === 'pods' ? reading.pods.map(({ pod }) => pod) : [];
  });

  it('is protected as it says, without a warning, whoever applies it', () => {
    expect(pods).toHaveLength(1);
    const { decision, refusals, warnings, injection, volumes } = explainPod(
      pods[0] as JsonObject,
      'team-a',
      settingsOf(),
    );
    expect({ decision, refusals, warnings }).toEqual({ decision: 'inject', refusals: [], warnings: [] });
    expect(volumes.filter(({ kept }) => !kept)).toEqual([]);
    expect(injection?.asRoot).toBe(false);
    const [, , kind, name] = (injection?.lineage ?? '').split('/');
    const row = page.split('\n').find((line) => line.startsWith(`| [${file}]`));
    expect(row).toContain(`\`${kind}/${name}\``);
    expect(manifests.every((manifest) => textAt(manifest, 'metadata', 'namespace') === '')).toBe(true);
  });

  it('is as PodSecurity restricted wants it', () => {
    const { spec } = pods[0] as unknown as {
      spec: { securityContext: object; containers: { name: string; securityContext: object }[] };
    };
    expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    for (const { securityContext } of spec.containers) {
      expect(securityContext).toEqual({ allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } });
    }
  });

  it('has a program that Python can read', () => {
    const { spec } = pods[0] as unknown as { spec: { containers: { args?: string[] }[] } };
    for (const { args = [] } of spec.containers) {
      expect(() =>
        execFileSync('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: args[0] ?? '' }),
      ).not.toThrow();
    }
  });
});
