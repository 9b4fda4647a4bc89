import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { grantSecretName, keyFile } from '../../src/contract/pod-layout.ts';
import { snapshotTree } from '../support/tree-snapshot.ts';
import { binary, type JsonObject, Workplace } from './run-cli.ts';

const workload = 'prod/team-a/deployment/web';
const other = 'prod/team-a/deployment/other';

describe('the keys of one workload', () => {
  let work: Workplace;
  /** As a pod has it: the file of its Secret, and no other key. */
  let granted: Readonly<Record<string, string>>;

  async function grantOf(name: string): Promise<JsonObject> {
    const { code, stdout, stderr } = await work.run(['keys', 'grant', '--workload', name]);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    return JSON.parse(stdout);
  }

  function keep(secret: JsonObject, file: string): string {
    fs.writeFileSync(work.at(file), secret['stringData'].key, { mode: 0o600 });
    return work.at(file);
  }

  beforeAll(async () => {
    work = new Workplace();
    fs.mkdirSync(work.at('data'));
    fs.writeFileSync(work.at('data', 'file'), 'content');
    expect(await work.run(['init'])).toMatchObject({ code: 0 });
    granted = {
      HOLDFAST_KEY_FILE: keep(await grantOf(workload), 'granted.key'),
      HOLDFAST_LINEAGE: `${workload}/0`,
    };
  });
  afterAll(() => work[Symbol.dispose]());

  it('are a Secret for the namespace, under the name that its pods mount', async () => {
    expect(await grantOf(workload)).toMatchObject({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: grantSecretName({ kind: 'deployment', name: 'web' }), namespace: 'team-a' },
    });
  });

  it('make and restore its checkpoints, also the first one, without the repository key', async () => {
    expect(await work.json(['checkpoint', 'data'], { env: granted })).toMatchObject({ files: 1 });
    expect(await work.json(['restore', '--target', 'restored'], { env: granted })).toMatchObject({ verified: true });
    expect(snapshotTree(work.at('restored'))).toEqual(snapshotTree(work.at('data')));
    // Who has the repository key reads the same.
    expect(await work.json(['restore', '--target', 'again', '--lineage', `${workload}/0`])).toMatchObject({ files: 1 });
  });

  it('open nothing of another workload, and make none', async () => {
    expect(await work.json(['checkpoint', 'data', '--lineage', `${other}/0`])).toMatchObject({ files: 1 });
    for (const command of [['restore', '--target', 'stolen'], ['checkpoint', 'data'], ['ls']]) {
      const error = await work.error([...command, '--lineage', `${other}/0`], { env: granted });
      expect(error, command[0]).toMatchObject({ code: 'E_KEY_WRONG' });
      expect(error['message']).toContain(`these are the keys of ${workload} alone`);
    }
    const fresh = ['checkpoint', 'data', '--lineage', 'prod/team-a/deployment/new/0'];
    expect(await work.error(fresh, { env: granted })).toMatchObject({ code: 'E_KEY_WRONG' });
    expect(await work.error(['keys', 'rotate'], { env: granted })).toMatchObject({ code: 'E_KEY_WRONG' });
  });

  it('are granted again after a new data key, which the old grant does not hold', async () => {
    expect(await work.run(['keys', 'rotate', '--lineage', `${workload}/0`])).toMatchObject({ code: 0 });
    const error = await work.error(['restore', '--target', 'later'], { env: granted });
    expect(error).toMatchObject({ code: 'E_KEY_WRONG', remedy: expect.stringContaining('holdfast keys grant') });
    const renewed = { ...granted, HOLDFAST_KEY_FILE: keep(await grantOf(workload), 'renewed.key') };
    expect(await work.json(['restore', '--target', 'later'], { env: renewed })).toMatchObject({ verified: true });
  });

  it('that were cut or changed are told from those of another repository', async () => {
    const text = fs.readFileSync(work.at('granted.key'), 'utf8');
    for (const [name, spoilt] of Object.entries({
      cut: text.slice(0, -20),
      changed: text.replace(/(holdfast-grant-1 .)./, '$10'),
      twice: text + text,
    })) {
      fs.writeFileSync(work.at(`${name}.key`), spoilt, { mode: 0o600 });
      const env = { ...granted, HOLDFAST_KEY_FILE: work.at(`${name}.key`) };
      expect(await work.error(['ls'], { env }), name).toMatchObject({ code: 'E_KEY_WRONG' });
    }
    fs.writeFileSync(work.at('newer.key'), text.replace('holdfast-grant-1', 'holdfast-grant-2'), { mode: 0o600 });
    const newer = { ...granted, HOLDFAST_KEY_FILE: work.at('newer.key') };
    expect(await work.error(['ls'], { env: newer })).toMatchObject({ code: 'E_FORMAT_NEWER' });
  });

  it('are asked for by a pod that lacks them, with the command', async () => {
    // With a slot, and without one where it is claimed when the pod runs.
    for (const lineage of [`${workload}/0`, workload]) {
      const env = { ...granted, HOLDFAST_KEY_FILE: keyFile, HOLDFAST_LINEAGE: lineage };
      const error = await work.error(['ls'], { env });
      expect(error).toMatchObject({ code: 'E_KEY_MISSING' });
      expect(error['remedy']).toContain(`holdfast keys grant --workload ${workload} | kubectl apply -f -`);
    }
  });

  it.each([
    ['web', /CLUSTER\/NAMESPACE\/KIND\/NAME/],
    [`${workload}/0`, /CLUSTER\/NAMESPACE\/KIND\/NAME/],
    ['prod/team-a/Deployment/web', /CLUSTER\/NAMESPACE\/KIND\/NAME/],
  ])('are not granted to %s', async (name, message) => {
    const error = await work.error(['keys', 'grant', '--workload', name]);
    expect(error).toMatchObject({ code: 'E_USAGE' });
    expect(error['message']).toMatch(message);
  });

  it('are not shown at a terminal', async () => {
    const command = `${binary} keys grant --workload ${workload}`;
    const { stdout } = await work.run([], {
      command: ['script', '-qec', command, '/dev/null'],
    });
    expect(stdout).toContain('do not belong on a terminal');
    expect(stdout).not.toContain('holdfast-grant-1');
  });
});
