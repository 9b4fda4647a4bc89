/** The commands, their options and texts. Each is loaded when it is run. */
import type { Host } from './host.ts';
import type { OptionName, Parsed } from './options.ts';

export interface CommandInfo {
  readonly name: string;
  readonly usage: readonly string[];
  readonly summary: string;
  readonly details: string;
  readonly options: readonly OptionName[];
  readonly examples: readonly string[];
  load(): Promise<(host: Host, parsed: Parsed) => Promise<number>>;
}

const reading: readonly OptionName[] = ['store', 'key-file', 'encryption', 'output'];

export const commands: readonly CommandInfo[] = [
  {
    name: 'init',
    usage: ['--store ADDRESS --key-file FILE', '--store ADDRESS --encryption none'],
    summary: 'make a repository and its key',
    details: 'Makes the repository in the store, and the key file (mode 0600) when it does not exist yet.',
    options: ['store', 'key-file', 'encryption', 'output'],
    examples: ['holdfast init --store file:/srv/checkpoints --key-file repository.key'],
    load: async () => (await import('./init.ts')).init,
  },
  {
    name: 'checkpoint',
    usage: ['DIR', 'VOLUME=DIR...'],
    summary: 'store what changed in a directory, or in several volumes as one set',
    details: `Walks the directories, stores what changed since the lineage's newest checkpoint, and makes one new checkpoint of
all of them. A bare DIR is the volume \`data\`. Passes go on until one meets no change (converged), or the bound is met
(fuzzy, with the names that moved). Exit code 3: the checkpoint exists, but some files could not be read.`,
    options: [
      ...reading,
      'lineage',
      'state-dir',
      'include',
      'exclude',
      'level',
      'dry-run',
      'take',
      'seal',
      'passes',
      'converge-within',
      'partial-bytes',
      'lanes',
      'label',
      'no-cache',
    ],
    examples: [
      'holdfast checkpoint /var/lib/app --lineage team/app/0',
      'holdfast checkpoint data=/srv/data logs=/var/log/app --lineage team/app/0 --exclude "*.tmp"',
    ],
    load: async () => (await import('./checkpoint.ts')).checkpoint,
  },
];
