import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { errorCatalogue } from '../../src/engine/model/errors.ts';

interface Documented {
  readonly kind: string;
  readonly exit: number;
  readonly meaning: string;
  readonly remedy: string;
}

function documented(): Map<string, Documented> {
  const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  const found = new Map<string, Documented>();
  for (const section of text.split(/^## /m).slice(1)) {
    const match = /^(E_[A-Z_]+)\n\nKind `([a-z]+)`, exit code (\d+)\.\n\n(.+?)\n\nRemedy: (.+)$/s.exec(section.trim());
    expect(match, `section ${section.slice(0, 40)}`).not.toBeNull();
    const [, code = '', kind = '', exit = '', meaning = '', remedy = ''] = match ?? [];
    expect(found.has(code), `${code} is documented once`).toBe(false);
    const joined = (lines: string): string => lines.replaceAll('\n', ' ');
    found.set(code, { kind, exit: Number(exit), meaning: joined(meaning), remedy: joined(remedy) });
  }
  return found;
}

describe('docs/errors.md', () => {
  it('lists every code of the catalogue with its kind, exit code and remedy, and no other', () => {
    const docs = documented();
    expect([...docs.keys()]).toEqual(Object.keys(errorCatalogue));
    for (const [code, { kind, exit, remedy }] of Object.entries(errorCatalogue)) {
      const found = docs.get(code);
      expect({ code, kind: found?.kind, exit: found?.exit, remedy: found?.remedy }).toEqual({
        code,
        kind,
        exit,
        remedy,
      });
      expect(found?.meaning.length, code).toBeGreaterThan(20);
    }
  });

  it('names each kind of the catalogue', () => {
    const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
    const named = new Set([...text.matchAll(/^\| `([a-z]+)` \|/gm)].map((match) => match[1]));
    expect([...named].sort()).toEqual([...new Set(Object.values(errorCatalogue).map(({ kind }) => kind))].sort());
  });
});

describe('exit codes', () => {
  it('are distinct, so that a script can tell every failure from every other', () => {
    const exits = Object.values(errorCatalogue).map(({ exit }) => exit);
    expect(new Set(exits).size).toBe(exits.length);
  });

  it('leave out those that shells, Node and success have taken', () => {
    // 1: an uncaught error of Node; 126, 127 and 128 and up: the shell's. 130 is what a shell says of SIGINT, and so do we.
    for (const { exit } of Object.values(errorCatalogue)) {
      expect(exit).not.toBe(0);
      expect(exit).not.toBe(1);
      expect(exit < 126 || exit === 130).toBe(true);
    }
  });
});
