import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cliPage } from '../../tools/cli-page.ts';
import { installedServers, startServer } from '../servers/s3-server.ts';
import { cliEnvironment, runCli, Workplace } from './run-cli.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** The commands of the quick start, but for the build, which has been done when tests run. */
function quickStart(): string {
  const block = /^## Quick start$.*?^```sh\n(.*?)^```$/ms.exec(read('README.md'))?.[1] ?? '';
  const [build, ...rest] = block.split('\n');
  expect(build).toBe('npm run build');
  return rest.join('\n');
}

/** Those of the start with a bucket. */
function bucketStart(): string {
  const [, block] = [...read('README.md').matchAll(/^```sh\n(export HOLDFAST_STORE="s3:.*?)^```$/gms)][0] ?? [];
  expect(block).toContain('holdfast init');
  return block ?? '';
}

describe('README.md', () => {
  it('has a quick start that works as it stands there', async () => {
    using work = new Workplace();
    const under = ['sh', '-euc', `cd "${root}"; ${quickStart()}`, 'sh'];
    const env = cliEnvironment({ HOME: work.path, XDG_STATE_HOME: '' });
    const ran = await runCli([], { under, env });
    expect({ code: ran.code, stderr: ran.stderr }).toEqual({ code: 0, stderr: '' });
    expect(ran.stdout).toContain('Made repository ');
    expect(ran.stdout).toMatch(/^Checkpoint 3 of team\/app\/0: 1 file, 12 B, converged/m);
    expect(ran.stdout).toMatch(/^M greeting {2}6 B to 12 B, content, mtime$/m);
    expect(ran.stdout).toMatch(/^ {2}root {4}[0-9a-f]{64}, equal\nhello again\n/m);
    expect(ran.stdout).toMatch(/^team\/app\/0 3: sound/m);
    expect(existsSync(work.at('.local/state/holdfast/holders'))).toBe(true);
  });

  it.each(installedServers('minio'))('has a start with a bucket that works on %s as it stands there', async (name) => {
    using work = new Workplace();
    await using server = await startServer(name);
    const under = [
      'sh',
      '-euc',
      `mkdir "$HOME/app"; echo kept > "$HOME/app/file"; PATH="${root}bin:$PATH"; ${bucketStart()}`,
      'sh',
    ];
    const env = cliEnvironment({
      HOME: work.path,
      XDG_STATE_HOME: '',
      S3_ENDPOINT: server.endpoint,
      AWS_ACCESS_KEY_ID: server.accessKeyId,
      AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
    });
    const ran = await runCli([], { under, env });
    expect({ code: ran.code, stderr: ran.stderr }).toEqual({ code: 0, stderr: '' });
    expect(ran.stdout).toMatch(/^ {2}root {4}[0-9a-f]{64}, equal$/m);
    expect(readFileSync(work.at('app-again', 'file'), 'utf8')).toBe('kept\n');
  });

  it('and the pages for users link to what is there', () => {
    for (const page of ['README.md', 'docs/cli.md', 'docs/errors.md']) {
      for (const [, target = ''] of read(page).matchAll(/\]\((?!https?:)([^)#]+)/g)) {
        expect(existsSync(join(root, dirname(page), target)), `${page}: ${target}`).toBe(true);
      }
    }
  });
});

describe('docs/cli.md', () => {
  it('says what the program itself says: node tools/cli-page.ts', () => {
    expect(read('docs/cli.md')).toBe(cliPage());
  });
});
