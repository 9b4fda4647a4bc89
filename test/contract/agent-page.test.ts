import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { agentRoutes, agentWarnings } from '../../src/contract/agent-api.ts';
import { agentEvents } from '../../src/contract/events.ts';

const page = readFileSync(new URL('../../docs/agent.md', import.meta.url), 'utf8');

/** First and second cell of the rows of the table with that head. */
function table(head: string): [string, string][] {
  const rows = page.split(`| ${head} |`)[1]?.split('\n\n')[0]?.split('\n').slice(2) ?? [];
  return rows.flatMap((row) => {
    const [, first, second] = /^\| `(.*?)` \| (.*) \|$/.exec(row.trim()) ?? [];
    return first === undefined || second === undefined ? [] : [[first, second] as [string, string]];
  });
}

describe('docs/agent.md', () => {
  it('lists every event with its meaning', () => {
    expect(table('event | meaning')).toEqual(Object.entries(agentEvents));
  });

  it('lists every warning with its remedy', () => {
    expect(table('warning | remedy')).toEqual(Object.entries(agentWarnings));
  });

  it('lists every route', () => {
    expect(table('request | what it does').map(([request]) => request)).toEqual(
      Object.values(agentRoutes).map(({ method, path }) => `${method} ${path}`),
    );
  });
});
