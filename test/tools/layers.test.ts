import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LAYERS } from '../../tools/layer-rules.ts';
import { checkLayers } from '../../tools/layers.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'holdfast-layers-'));
  mkdirSync(join(root, 'src'));
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function plant(files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

function violationsOf(path: string, text: string): string[] {
  plant({ [path]: text });
  return checkLayers(root).violations.map(({ file, line, message }) => `${file}:${line}: ${message}`);
}

describe('a tree that keeps the rule', () => {
  it('passes, and every kind of reference is counted', () => {
    plant({
      'src/engine/model/ids.ts': "import type { Bytes } from './bytes.ts';\n",
      'src/engine/format/pack.ts': "import { createHash, type Hash } from 'node:crypto';\nimport '../model/ids.ts';\n",
      'src/engine/capture/deep/below/stage.ts': "export { x } from '../../../tree/build.ts';\n",
      'src/edge/host/native.ts':
        "import koffi from 'koffi';\nimport fs from 'node:fs';\nimport '../store/memory.ts';\n",
      'src/edge/host/lazy.ts': "const require = createRequire(import.meta.url);\nrequire('koffi');\n",
      'src/cli/restore.ts': "import { parseArgs } from 'node:util';\nimport '../engine/rehydrate/rehydrate.ts';\n",
      'src/cli/main.ts':
        "import '../edge/store/memory.ts';\nimport { readFileSync } from 'node:fs';\n" +
        'new Worker(new URL(`../lane/main.${extension}`, import.meta.url));\n',
    });
    // An `import.meta.url` counts beside what it is used with.
    expect(checkLayers(root)).toEqual({ files: 7, references: 15, violations: [] });
  });

  it('passes with words that only look like imports', () => {
    const text = [
      "// import '../capture/capture.ts';",
      "/* import '../capture/capture.ts'; */",
      'const text = "import \'../capture/capture.ts\'";',
      'const template = `${1} import "../capture/capture.ts"`;',
      "const pattern = /'/; const other = /import '..\\/capture\\/capture.ts'/;",
      'const ratio = a / b; const { import: from } = c;',
    ].join('\n');
    expect(violationsOf('src/engine/rehydrate/plan.ts', text)).toEqual([]);
  });
});

describe('a planted violation is named', () => {
  const capture = '../capture/capture.ts';
  const refused = 'src/engine/rehydrate/plan.ts:2: engine/rehydrate may not import engine/capture';
  const forms = {
    'an import': `\nimport { capture } from '${capture}';`,
    'an import for its effect': `\nimport '${capture}';`,
    'an import of a type': `\nimport type { Capture } from '${capture}';`,
    'an inline import of a type': `\nimport { type Capture } from '${capture}';`,
    'an export': `\nexport { capture } from '${capture}';`,
    'an export of everything': `\nexport * from '${capture}';`,
    'an export of a type': `\nexport type { Capture } from '${capture}';`,
    'a dynamic import': `\nconst { capture } = await import('${capture}');`,
    'a dynamic import by a template': `\nawait import(\`${capture}\`);`,
    'a type by its module': `\nlet plan: import('${capture}').Capture;`,
    'an import by require': `\nimport capture = require('${capture}');`,
    'require itself': `\nconst capture = require('${capture}');`,
    'the result of createRequire': `\nconst capture = createRequire(import.meta.url)('${capture}');`,
    'an import after an odd regular expression': `const quote = /["'\`]/ /* ' */;\nimport '${capture}';`,
  };
  it.each(Object.entries(forms))('%s', (_, text) => {
    const found = violationsOf('src/engine/rehydrate/plan.ts', text).filter((each) => !each.includes('import.meta'));
    expect(found).toEqual([expect.stringContaining(refused)]);
    expect(found[0]).toContain('allowed: engine/model, engine/format');
  });

  const cases: Record<string, [path: string, text: string, expected: string]> = {
    'the model imports the format': [
      'src/engine/model/ids.ts',
      "import '../format/pack.ts';",
      'engine/model may not import engine/format (../format/pack.ts); allowed: none',
    ],
    'a port imports the tree': [
      'src/engine/ports/clock.ts',
      "import '../tree/scan.ts';",
      'engine/ports may not import engine/tree',
    ],
    'capture imports rehydrate': [
      'src/engine/capture/capture.ts',
      "import '../rehydrate/rehydrate.ts';",
      'engine/capture may not import engine/rehydrate',
    ],
    'the engine imports the edge': [
      'src/engine/tree/scan.ts',
      "import '../../edge/store/memory.ts';",
      'engine/tree may not import edge/store',
    ],
    'the edge imports a pipeline': [
      'src/edge/host/lanes.ts',
      "import '../../engine/capture/capture.ts';",
      'edge/host may not import engine/capture',
    ],
    'the contract imports a process': [
      'src/contract/env.ts',
      "import '../agent/settings.ts';",
      'contract may not import agent',
    ],
    'a process imports the edge outside of its main.ts': [
      'src/cli/restore.ts',
      "import type { Store } from '../edge/store/memory.ts';",
      'cli may not import edge/store except in main.ts',
    ],
    'a main.ts that is not the one of the process imports the edge': [
      'src/cli/restore/main.ts',
      "import '../../edge/store/memory.ts';",
      'cli may not import edge/store except in main.ts',
    ],
    'a process imports another': ['src/cli/main.ts', "import '../lane/main.ts';", 'cli may not import lane'],
    'a process starts another that is no worker': [
      'src/cli/main.ts',
      "new Worker(new URL('../agent/main.ts', import.meta.url));",
      'cli/main.ts may not start agent/main.ts; allowed: lane/main.ts',
    ],
    'a worker is started outside of main.ts': [
      'src/cli/restore.ts',
      "new Worker(new URL('../lane/main.ts', import.meta.url));",
      'cli/restore.ts may not start lane/main.ts; allowed: none',
    ],
    'a file is named whose folder is computed': [
      'src/cli/main.ts',
      'new Worker(new URL(`../${process}/main.ts`, import.meta.url));',
      'names a module or file that is computed',
    ],
    'the engine asks where it lies': [
      'src/engine/tree/scan.ts',
      'export const here = import.meta.dirname;',
      'engine/tree may not use import.meta',
    ],
    'a module is computed': ['src/cli/main.ts', 'await import(name);', 'names a module or file that is computed'],
    'the engine reads the disk': [
      'src/engine/tree/scan.ts',
      "import { readFileSync } from 'node:fs';",
      'engine/tree may not import node:fs; allowed: node:crypto',
    ],
    'the engine rolls dice': [
      'src/engine/format/pack.ts',
      "import { createHash, randomBytes } from 'node:crypto';",
      'engine/format may not take randomBytes from node:crypto',
    ],
    'the engine takes all of node:crypto': [
      'src/engine/format/pack.ts',
      "import * as crypto from 'node:crypto';",
      'engine/format may import node:crypto by name only',
    ],
    'a process reads the disk outside of main.ts': [
      'src/cli/restore.ts',
      "import { readFileSync } from 'node:fs';",
      'cli may not import node:fs',
    ],
    'a built-in without its prefix': ['src/edge/host/tree.ts', "import 'fs';", 'write node:fs'],
    'a package that the layer does not have': [
      'src/edge/store/directory.ts',
      "import koffi from 'koffi/indirect';",
      'edge/store may not import the package koffi',
    ],
    'a scoped package': [
      'src/engine/tree/scan.ts',
      "import '@scope/name/deep';",
      'engine/tree may not import the package @scope/name; allowed: none',
    ],
    'a loader that goes around imports': [
      'src/edge/host/tree.ts',
      "const load = createRequire(import.meta.url);\nprocess.getBuiltinModule('fs');",
      'createRequire loads modules around the import rule',
    ],
    'a path out of src': ['src/cli/main.ts', "import '../../test/support/tree.ts';", 'reaches outside src'],
    'a folder that is not listed': ['src/engine/magic/wand.ts', '', 'src/engine/magic is not listed'],
    'a file above the listed folders': ['src/engine/index.ts', '', 'src/engine is not listed'],
    'an import from a folder that is not listed': [
      'src/cli/main.ts',
      "import '../engine/magic/wand.ts';",
      'reaches engine/magic, which is not listed',
    ],
    'a source that is not TypeScript': ['src/cli/main.js', '', 'only .ts files belong into src'],
    'a file that does not parse': ['src/cli/main.ts', 'import {', 'does not parse'],
  };
  it.each(Object.entries(cases))('%s', (_, [path, text, expected]) => {
    expect(violationsOf(path, text)[0]).toContain(expected);
  });
});

describe('the allow-list itself', () => {
  const reachable = (folder: string): Set<string> => {
    const found = new Set<string>();
    const visit = (each: string): void => {
      for (const next of LAYERS[each]?.imports ?? []) {
        if (found.has(next)) continue;
        found.add(next);
        visit(next);
      }
    };
    visit(folder);
    return found;
  };
  const engineFolders = Object.keys(LAYERS).filter((folder) => folder.startsWith('engine/'));

  it('never leads out of the engine, nor in a circle within it', () => {
    for (const folder of engineFolders) {
      const found = reachable(folder);
      expect([...found].filter((each) => !each.startsWith('engine/'))).toEqual([]);
      expect(found).not.toContain(folder);
    }
  });

  it('keeps capture and rehydrate apart, also by way of others', () => {
    expect(reachable('engine/capture')).not.toContain('engine/rehydrate');
    expect(reachable('engine/rehydrate')).not.toContain('engine/capture');
  });

  it('gives the engine nothing of the outside but deterministic functions', () => {
    for (const folder of engineFolders) {
      const layer = LAYERS[folder];
      expect(Object.keys(layer?.builtins ?? {})).toEqual(['node:crypto']);
      expect(layer?.builtins?.['node:crypto']).not.toContain('randomBytes');
      expect(layer?.packages).toBeUndefined();
      expect(layer?.importMeta).toBeUndefined();
    }
  });
});
