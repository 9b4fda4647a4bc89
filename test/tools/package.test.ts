import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const checkout = join(import.meta.dirname, '../..');

interface Package {
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly devEngines?: unknown;
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(join(checkout, path), 'utf8')) as T;
}

describe.each(['.', 'tools/runtime'])('the package in %s', (dir) => {
  const wanted = readJson<Package>(join(dir, 'package.json'));
  const lockText = readFileSync(join(checkout, dir, 'package-lock.json'), 'utf8');
  const locked = (JSON.parse(lockText) as { packages: Readonly<Record<string, Package & { version?: string }>> })
    .packages;

  it('names exact versions, and the lock file holds those', () => {
    for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies'] as const) {
      expect(locked['']?.[kind]).toEqual(wanted[kind]);
      for (const [name, version] of Object.entries(wanted[kind] ?? {})) {
        expect(version).toMatch(/^\d+\.\d+\.\d+$/);
        expect(locked[`node_modules/${name}`]?.version).toBe(version);
      }
    }
  });

  it('can be installed from any registry: the lock file names none', () => {
    expect(lockText).not.toContain('"resolved"');
  });

  it('does not refuse the older Node that starts the bootstrap', () => {
    expect(wanted.devEngines).toBeUndefined();
  });
});

it('the lock file of the product holds no Node', () => {
  expect(readFileSync(join(checkout, 'package-lock.json'), 'utf8')).not.toMatch(/"node_modules\/node(-[a-z0-9-]+)?"/);
});

it('no script needs another one to have run before: hooks are skipped under ignore-scripts', () => {
  const { scripts = {} } = readJson<Package>('package.json');
  for (const [name, command] of Object.entries(scripts)) {
    expect(command).toBe(`node tools/run.mjs ${name}`);
  }
});

describe('the documents', () => {
  const { scripts = {} } = readJson<Package>('package.json');
  const documents = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...markdownBelow('docs')];

  it.each(documents)('%s names only npm scripts that exist', (path) => {
    const text = readFileSync(join(checkout, path), 'utf8');
    const named = [...text.matchAll(/\bnpm (?:run ([\w:-]+)|(test)\b)/g)].map((match) => match[1] ?? match[2]);
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
  });

  it.each(documents)('%s links only to files that exist', (path) => {
    const text = readFileSync(join(checkout, path), 'utf8');
    const links = [...text.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g)].map((match) => match[1] as string);
    expect(links.filter((link) => !existsSync(join(checkout, path, '..', link)))).toEqual([]);
  });
});

function markdownBelow(dir: string): string[] {
  if (!existsSync(join(checkout, dir))) return [];
  return readdirSync(join(checkout, dir), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.md'))
    .map((path) => join(dir, path));
}
