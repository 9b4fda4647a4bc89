/** Names of a module that may be imported: all of them, or those listed. */
export type Names = 'all' | readonly string[];

/** What the files of one folder may reach. Folders are relative to `src/` and cover what lies below them. */
export interface Layer {
  /** Other folders whose files may be imported; a folder's own files always may. */
  readonly imports: readonly string[];
  /** Built-in modules, with the names that may be taken from them. Types may be taken from any module listed. */
  readonly builtins?: Readonly<Record<string, Names>>;
  /** Packages from `dependencies`. */
  readonly packages?: readonly string[];
  /** The one file that puts the process together, and what it may reach beyond the rest of its folder. */
  readonly entry?: Entry;
  /** Whether `import.meta` may be used: code that knows where it lies can reach the disk. */
  readonly importMeta?: boolean;
}

export interface Entry {
  readonly file: string;
  readonly imports: readonly string[];
  readonly builtins?: Readonly<Record<string, Names>>;
  /** Files outside the folder that may be named by `new URL('…', import.meta.url)`, to start a worker with. */
  readonly starts?: readonly string[];
}

/**
 * What the engine may take from `node:crypto`: functions whose result depends on their arguments alone, and which are done
 * when they return. Chance comes from the random port.
 */
const DETERMINISTIC_CRYPTO: Readonly<Record<string, Names>> = {
  'node:crypto': [
    'createCipheriv',
    'createDecipheriv',
    'createHash',
    'createHmac',
    'createPrivateKey',
    'createPublicKey',
    'createSecretKey',
    'hash',
    'hkdfSync',
    'KeyObject',
    'sign',
    'timingSafeEqual',
    'verify',
  ],
};

const ENGINE_ALL = [
  'engine/model',
  'engine/format',
  'engine/ports',
  'engine/tree',
  'engine/lineage',
  'engine/capture',
  'engine/rehydrate',
  'engine/replicate',
  'engine/retain',
] as const;

function engine(imports: readonly string[]): Layer {
  return { imports, builtins: DETERMINISTIC_CRYPTO };
}

/** `edge` is the only code that touches the outside, so every built-in is open to it. */
function edge(packages: readonly string[]): Layer {
  return {
    imports: ['engine/model', 'engine/format', 'engine/ports', 'contract', 'edge'],
    builtins: { '*': 'all' },
    packages,
    importMeta: true,
  };
}

/** A process: works on what it is handed, except for `main.ts`, which builds the parts from `edge` and hands them out. */
function process(
  starts: readonly string[] = [],
  more: Pick<Layer, 'packages' | 'builtins'> & { imports?: readonly string[] } = {},
): Layer {
  return {
    imports: [...ENGINE_ALL, 'contract', ...(more.imports ?? [])],
    builtins: { 'node:path': 'all', 'node:util': 'all', ...more.builtins },
    ...(more.packages === undefined ? {} : { packages: more.packages }),
    entry: { file: 'main.ts', imports: ['edge'], builtins: { '*': 'all' }, starts },
    importMeta: true,
  };
}

/** The allow-list. A folder of `src/` that is not listed is refused. */
export const LAYERS: Readonly<Record<string, Layer>> = {
  'engine/model': engine([]),
  'engine/format': engine(['engine/model']),
  'engine/ports': engine(['engine/model']),
  'engine/tree': engine(['engine/model', 'engine/format', 'engine/ports']),
  'engine/lineage': engine(['engine/model', 'engine/format', 'engine/ports', 'engine/tree']),
  'engine/capture': engine(['engine/model', 'engine/format', 'engine/ports', 'engine/tree', 'engine/lineage']),
  'engine/rehydrate': engine(['engine/model', 'engine/format', 'engine/ports', 'engine/tree', 'engine/lineage']),
  // Moves objects as they are; it never looks into a tree.
  'engine/replicate': engine(['engine/model', 'engine/format', 'engine/ports', 'engine/lineage']),
  'engine/retain': engine(['engine/model', 'engine/format', 'engine/ports', 'engine/tree', 'engine/lineage']),

  contract: { imports: ['engine/model'] },

  'edge/store': edge(['@aws-sdk/client-s3']),
  'edge/host': edge(['chokidar', 'koffi', 'zstd-codec']),
  'edge/kube': edge([]),
  // Of the plugin for kubectl alone: what runs in pods has no client of Kubernetes.
  'edge/cluster': edge(['@kubernetes/client-node', 'js-yaml']),

  // Started by the command line, whose main.ts hands the parts in.
  agent: process([], { packages: ['croner', 'fastify', 'pino', 'prom-client'] }),
  cli: process(['lane/main.ts'], { imports: ['agent', 'webhook'] }),
  kubectl: process(['cli/main.ts'], { imports: ['cli', 'webhook'] }),
  controller: process(),
  dashboard: process(),
  // The worker thread that runs the engine's synchronous pipeline for another process.
  lane: process(),
  webhook: process([], { packages: ['fastify', 'pino', 'prom-client'], builtins: { 'node:crypto': ['hash'] } }),
};
