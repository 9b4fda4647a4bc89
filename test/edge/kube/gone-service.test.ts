import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemRandom } from '../../../src/edge/host/system-random.ts';
import { openGoneService } from '../../../src/edge/kube/gone-service.ts';
import { toHolderId } from '../../../src/engine/model/ids.ts';
import { GoneServer } from '../../support/gone-server.ts';

const holder = toHolderId('pod-1');

let server: GoneServer;
let directory: string;
beforeEach(async () => {
  server = await GoneServer.start();
  directory = mkdtempSync(join(tmpdir(), 'holdfast-gone-'));
});
afterEach(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

function service(more: { readonly address?: string; readonly tokenFile?: string; readonly said?: string[] } = {}) {
  return openGoneService({
    address: more.address ?? server.address,
    tokenFile: more.tokenFile,
    caFile: undefined,
    ca: undefined,
    random: systemRandom,
    onSilent: (reason) => more.said?.push(reason),
  });
}

describe('a pod', () => {
  test('is gone when the service says so of this very question', async () => {
    server.pods.set('pod-1', 'gone');
    expect(await service().isGone(holder, { name: 'app-1' })).toBe('gone');
    expect(server.asked).toMatchObject([{ pod: { uid: 'pod-1', name: 'app-1' }, token: undefined }]);
  });

  test.each(['alive', 'terminating', 'unknown'] as const)('that is %s is not gone', async (state) => {
    server.pods.set('pod-1', state);
    expect(await service().isGone(holder)).toBe(state === 'terminating' ? 'ending' : 'unknown');
    expect(await service().stateOf(holder)).toBe(state);
  });

  const gone = (more: object): string =>
    JSON.stringify({ version: 1, question: '0'.repeat(32), pod: { uid: 'pod-1' }, state: 'gone', ...more });

  test.each<readonly [string, (question: string) => { status: number; body: string }]>([
    ['an answer to an older question', () => ({ status: 200, body: gone({}) })],
    ['an answer about another pod', (question) => ({ status: 200, body: gone({ question, pod: { uid: 'pod-2' } }) })],
    ['an answer of another version', (question) => ({ status: 200, body: gone({ question, version: 2 }) })],
    ['an answer with an error status', (question) => ({ status: 404, body: gone({ question }) })],
    ['half an answer', (question) => ({ status: 200, body: gone({ question }).slice(0, -8) })],
    ['an answer without end', (question) => ({ status: 200, body: gone({ question, more: 'x'.repeat(9000) }) })],
    ['no JSON', () => ({ status: 200, body: '<html>gone</html>' })],
  ])('is not gone by %s, and that is said', async (_, body) => {
    server.answer = ({ question }) => body(question);
    const said: string[] = [];
    expect(await service({ said }).isGone(holder)).toBe('unknown');
    expect(said).toHaveLength(1);
  });

  test('is not gone because nobody answers', async () => {
    const { address } = server;
    await server[Symbol.asyncDispose]();
    server = await GoneServer.start();
    const said: string[] = [];
    const asking = service({ address, said });
    expect(await asking.isGone(holder)).toBe('unknown');
    expect(await asking.isGone(holder)).toBe('unknown');
    expect(said).toEqual([expect.stringContaining('they count as alive')]);
  });

  test('is not gone because the service takes its time, which is waited for once', { timeout: 20_000 }, async () => {
    server.answer = () => undefined;
    const slow = service();
    for (let i = 0; i < 50; i++) expect(await slow.isGone(toHolderId(`pod-${i}`))).toBe('unknown');
    expect(server.asked).toHaveLength(1);
    const ended = new AbortController();
    const asking = service().isGone(holder, { signal: ended.signal });
    ended.abort();
    await expect(asking).rejects.toMatchObject({ code: 'E_ABORTED' });
  });
});

test('each question carries the token as the file has it then, and a number of its own', async () => {
  const tokenFile = join(directory, 'token');
  const asking = service({ tokenFile });
  for (const token of ['first', 'second']) {
    writeFileSync(tokenFile, `${token}\n`);
    await asking.isGone(holder);
  }
  expect(server.asked.map(({ token }) => token)).toEqual(['Bearer first', 'Bearer second']);
  expect(new Set(server.asked.map(({ question }) => question)).size).toBe(2);
});

test.each(['', 'holdfast', 'ftp://holdfast', 'http://user:secret@holdfast'])('%j is no address', (address) => {
  expect(() => service({ address: address || ' ' })).toThrow(expect.objectContaining({ code: 'E_USAGE' }));
});
