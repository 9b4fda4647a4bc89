import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, posix, relative, sep } from 'node:path';
import { type ESTree, parseSync, Visitor } from 'rolldown/utils';
import { type Entry, LAYERS, type Layer, type Names } from './layer-rules.ts';

/** One breach of the allow-list, with the file relative to the checkout. */
export interface Violation {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

export interface LayerReport {
  readonly files: number;
  readonly references: number;
  readonly violations: readonly Violation[];
}

/**
 * Holds every file below `root/src` against the allow-list of `tools/layer-rules.ts`.
 *
 * Sees static imports and exports, of types as well, `import()`, `import('…')` in types, `require`, and files named beside
 * `import.meta.url`. What cannot be followed, such as `import(name)`, is a violation: the list allows, it does not forbid.
 */
export function checkLayers(root: string, layers: Readonly<Record<string, Layer>> = LAYERS): LayerReport {
  const source = join(root, 'src');
  const violations: Violation[] = [];
  let files = 0;
  let references = 0;
  for (const path of filesBelow(source)) {
    const file = posix.join('src', path);
    files += 1;
    const folder = folderOf(path, layers);
    if (folder === undefined) {
      violations.push({ file, line: 1, message: `${dirname(file)} is not listed in tools/layer-rules.ts` });
      continue;
    }
    if (!path.endsWith('.ts') || path.endsWith('.d.ts')) {
      violations.push({ file, line: 1, message: 'only .ts files belong into src' });
      continue;
    }
    const layer = layers[folder] as Layer;
    const rights: Rights = {
      folder,
      layer,
      entry: layer.entry !== undefined && path === posix.join(folder, layer.entry.file) ? layer.entry : undefined,
    };
    const text = readFileSync(join(source, path), 'utf8');
    const found = referencesOf(path, text);
    references += found.length;
    for (const reference of found) {
      const message = judge(path, reference, rights, layers);
      if (message !== undefined) violations.push({ file, line: lineAt(text, reference.at), message });
    }
  }
  return { files, references, violations };
}

// ---------------------------------------------------------------------------------------------------------------------
// Finding references

interface Reference {
  /** Offset in the text. */
  readonly at: number;
  readonly kind: 'import' | 'url' | 'meta' | 'loader' | 'syntax';
  /** What is named; undefined where it is computed. */
  readonly target: string | undefined;
  /** Values taken from the module; undefined stands for the whole of it. Types are not listed. */
  readonly names: readonly string[] | undefined;
}

function referencesOf(path: string, text: string): Reference[] {
  const { program, errors } = parseSync(path, text);
  const found: Reference[] = errors.map((error) => ({
    at: error.labels[0]?.start ?? 0,
    kind: 'syntax',
    target: error.message,
    names: [],
  }));
  const add = (node: { start: number }, kind: Reference['kind'], target?: string, names?: readonly string[]): void => {
    found.push({ at: node.start, kind, target, names });
  };
  /** Those `import.meta` that a call below accounts for; any other is reported as such. */
  const seen = new Set<number>();
  /** Those calls of `createRequire` whose result can be followed: called at once, or kept in a variable `require`. */
  const followed = new Set<number>();
  const beside = (node: ESTree.NewExpression | ESTree.CallExpression): void => {
    const meta = node.arguments.find(isMetaUrl);
    if (meta === undefined) return;
    seen.add(meta.start);
    for (const argument of node.arguments) {
      if (argument === meta) continue;
      add(argument, 'url', leadingTextOf(argument));
    }
    add(meta, 'meta', 'import.meta.url', []);
  };
  new Visitor({
    ImportDeclaration(node) {
      add(node, 'import', node.source.value, valuesOfImport(node));
    },
    ExportAllDeclaration(node) {
      add(node, 'import', node.source.value, node.exportKind === 'type' ? [] : undefined);
    },
    ExportNamedDeclaration(node) {
      if (node.source === null) return;
      const values = node.exportKind === 'type' ? [] : node.specifiers.filter((each) => each.exportKind !== 'type');
      add(
        node,
        'import',
        node.source.value,
        values.map((each) => nameOf(each.local)),
      );
    },
    ImportExpression(node) {
      add(node, 'import', textOf(node.source));
    },
    TSImportType(node) {
      add(node, 'import', textOf(node.source), []);
    },
    TSImportEqualsDeclaration(node) {
      if (node.moduleReference.type !== 'TSExternalModuleReference') return;
      add(node, 'import', textOf(node.moduleReference.expression));
    },
    NewExpression: beside,
    CallExpression(node) {
      beside(node);
      const callee = calleeNameOf(node.callee);
      if (node.callee.type === 'CallExpression' && calleeNameOf(node.callee.callee) === 'createRequire') {
        followed.add(node.callee.start);
        add(node, 'import', textOf(node.arguments[0]));
      } else if (callee === 'require') add(node, 'import', textOf(node.arguments[0]));
      else if (callee === 'getBuiltinModule') add(node, 'loader', callee);
      else if (callee === 'createRequire' && !followed.has(node.start)) add(node, 'loader', callee);
    },
    VariableDeclarator(node) {
      if (node.init !== null && node.id.type === 'Identifier' && node.id.name === 'require')
        followed.add(node.init.start);
    },
    MetaProperty(node) {
      if (node.meta.name === 'import' && !seen.has(node.start)) add(node, 'meta', 'import.meta', []);
    },
  }).visit(program);
  return found;
}

function valuesOfImport(node: ESTree.ImportDeclaration): readonly string[] | undefined {
  if (node.importKind === 'type') return [];
  const names: string[] = [];
  for (const specifier of node.specifiers) {
    // A default or namespace import holds everything that the module has.
    if (specifier.type !== 'ImportSpecifier') return undefined;
    if (specifier.importKind !== 'type') names.push(nameOf(specifier.imported));
  }
  return names;
}

function nameOf(node: ESTree.ModuleExportName): string {
  return node.type === 'Literal' ? node.value : node.name;
}

function calleeNameOf(node: ESTree.Expression | ESTree.Super): string {
  if (node.type === 'Identifier') return node.name;
  if (node.type === 'MemberExpression' && node.property.type === 'Identifier') return node.property.name;
  return '';
}

function isMetaUrl(node: ESTree.Argument): boolean {
  return (
    node.type === 'MemberExpression' &&
    node.object.type === 'MetaProperty' &&
    node.property.type === 'Identifier' &&
    node.property.name === 'url'
  );
}

/** The text of a literal; undefined for anything computed. */
function textOf(node: ESTree.Node | undefined): string | undefined {
  if (node === undefined) return undefined;
  if (node.type === 'Literal' && typeof node.value === 'string') return node.value;
  if (node.type === 'TemplateLiteral' && node.expressions.length === 0)
    return node.quasis[0]?.value.cooked ?? undefined;
  return undefined;
}

/**
 * Like `textOf`, but a computed ending is allowed, because a worker is a `.ts` file in the sources and a `.js` file when
 * compiled: `../lane/main.${extension}` gives `../lane/main.ts`.
 */
function leadingTextOf(node: ESTree.Node): string | undefined {
  if (node.type !== 'TemplateLiteral' || node.expressions.length !== 1) return textOf(node);
  const [before, after] = node.quasis.map((each) => each.value.cooked);
  if (typeof before !== 'string' || after !== '' || !/[^/.]\.?$/.test(before)) return undefined;
  return before.endsWith('.') ? `${before}ts` : `${before}.ts`;
}

// ---------------------------------------------------------------------------------------------------------------------
// Judging them

interface Rights {
  readonly folder: string;
  readonly layer: Layer;
  /** Present in the file that puts the process together. */
  readonly entry: Entry | undefined;
}

/** What is wrong with the reference, or undefined. */
function judge(
  path: string,
  { kind, target, names }: Reference,
  rights: Rights,
  layers: Readonly<Record<string, Layer>>,
): string | undefined {
  const { folder, layer } = rights;
  if (kind === 'syntax') return `does not parse: ${target}`;
  if (kind === 'meta') return layer.importMeta ? undefined : `${folder} may not use ${target}`;
  if (kind === 'loader')
    return `${target} loads modules around the import rule; import them, or name its result require`;
  if (target === undefined) return 'names a module or file that is computed: write it out';
  if (kind === 'url' || target.startsWith('.')) return judgeFile(path, kind, target, rights, layers);
  if (target.startsWith('node:')) return judgeBuiltin(target, names, rights);
  if (builtinModules.includes(target)) return `write node:${target}`;
  const packageName = target.split('/', target.startsWith('@') ? 2 : 1).join('/');
  if (layer.packages?.includes(packageName)) return undefined;
  return `${folder} may not import the package ${packageName}${allowed(layer.packages ?? [])}`;
}

function judgeFile(
  path: string,
  kind: Reference['kind'],
  target: string,
  { folder, layer, entry }: Rights,
  layers: Readonly<Record<string, Layer>>,
): string | undefined {
  const reached = posix.join(posix.dirname(path), target);
  if (reached.startsWith('../')) return `reaches outside src (${target})`;
  const other = folderOf(reached, layers);
  if (other === undefined) return `reaches ${posix.dirname(reached)}, which is not listed in tools/layer-rules.ts`;
  if (other === folder) return undefined;
  if (kind === 'url') {
    if (entry?.starts?.includes(reached)) return undefined;
    return `${path} may not start ${reached}${allowed(entry?.starts ?? [])}`;
  }
  const folders = [...layer.imports, ...(entry?.imports ?? [])];
  if (folders.some((each) => isWithin(other, each))) return undefined;
  const onlyEntry = layer.entry?.imports.some((each) => isWithin(other, each)) ? ` except in ${layer.entry.file}` : '';
  return `${folder} may not import ${other}${onlyEntry} (${target})${allowed(folders)}`;
}

function judgeBuiltin(
  target: string,
  names: readonly string[] | undefined,
  { folder, layer, entry }: Rights,
): string | undefined {
  const builtins: Readonly<Record<string, Names>> = { ...layer.builtins, ...entry?.builtins };
  const open = builtins[target] ?? builtins['*'];
  if (open === undefined) return `${folder} may not import ${target}${allowed(Object.keys(builtins))}`;
  if (open === 'all') return undefined;
  if (names === undefined) return `${folder} may import ${target} by name only`;
  const refused = names.filter((name) => !open.includes(name));
  if (refused.length === 0) return undefined;
  return `${folder} may not take ${refused.join(', ')} from ${target}${allowed(open)}`;
}

function allowed(list: readonly string[]): string {
  return `; allowed: ${list.length === 0 ? 'none' : list.join(', ')}`;
}

/** The listed folder that holds `path`, the deepest if there are several. */
function folderOf(path: string, layers: Readonly<Record<string, Layer>>): string | undefined {
  for (let folder = posix.dirname(path); folder !== '.' && folder !== '/'; folder = posix.dirname(folder)) {
    if (Object.hasOwn(layers, folder)) return folder;
  }
  return undefined;
}

function isWithin(folder: string, outer: string): boolean {
  return folder === outer || folder.startsWith(`${outer}/`);
}

function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split('\n').length;
}

/** Every file below `dir`, relative to it, with forward slashes, sorted. */
function filesBelow(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(dir, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort();
}

if (import.meta.main) {
  const { files, references, violations } = checkLayers(process.argv[2] ?? dirname(import.meta.dirname));
  for (const { file, line, message } of violations) console.error(`${file}:${line}: ${message}`);
  console.log(`layers: ${files} files, ${references} references, ${violations.length} violations`);
  process.exitCode = violations.length === 0 ? 0 : 1;
}
