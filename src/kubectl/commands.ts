/** The plugin's commands, their options and texts. Each is loaded when it is run. */
import type { KubectlHost } from './host.ts';
import type { KubectlOptionName, KubectlParsed } from './options.ts';

export interface KubectlCommand {
  readonly name: string;
  readonly usage: readonly string[];
  readonly summary: string;
  readonly details: string;
  readonly options: readonly KubectlOptionName[];
  readonly examples: readonly string[];
  load(): Promise<(host: KubectlHost, parsed: KubectlParsed) => Promise<number>>;
}

const ofLineage: readonly KubectlOptionName[] = ['key-file', 'store', 'settings'];

export const kubectlCommands: readonly KubectlCommand[] = [
  {
    name: 'explain',
    usage: ['POD', 'KIND/NAME', '-f FILE'],
    summary: 'what would be injected, what would be restored, and why not',
    details: `Decides as the webhook does, by the same code and the same settings, and changes nothing. Of each volume that is gone with its pod
it says whether it is kept. With --key-file it looks into the store for the checkpoint that a start would bring back. Of a pod that exists it
says what happened to it. With -f and --settings no cluster is needed. Exit code 1: a pod would be refused.`,
    options: ['filename', 'settings', 'key-file', 'store'],
    examples: [
      'kubectl holdfast explain -f deployment.yaml',
      'kubectl holdfast explain statefulset/web -n team-a --key-file team-a.key',
      'kubectl holdfast explain -f pod.yaml --settings settings.json',
    ],
    load: async () => (await import('./explain.ts')).explain,
  },
  {
    name: 'inventory',
    usage: [''],
    summary: 'every ephemeral volume: protected, unprotected, failing',
    details: `One row for each volume that is gone with its pod: protected, behind (older than its objective), failing (injected, and agent or
restore do not work), unprotected, or scratch (left out on purpose by a pod that protects others). With --live each agent is asked how old its
newest durable state is, which needs the right to exec. Exit code 1: something is failing or behind.`,
    options: ['all-namespaces', 'live'],
    examples: ['kubectl holdfast inventory -A', 'kubectl holdfast inventory -n team-a --live -o json'],
    load: async () => (await import('./inventory.ts')).inventory,
  },
  {
    name: 'ls',
    usage: ['POD|KIND/NAME'],
    summary: 'the checkpoints of a pod or workload',
    details: 'Reads the store from this machine, with your own credentials and key.',
    options: [...ofLineage, 'all'],
    examples: ['kubectl holdfast ls web-0 -n team-a --key-file team-a.key'],
    load: async () => (await import('./checkpoints.ts')).ls,
  },
  {
    name: 'show',
    usage: ['POD|KIND/NAME [WHICH]'],
    summary: 'one checkpoint in full',
    details: 'WHICH: latest, latest~2, a slot, an id, or a time. Reads the store from this machine.',
    options: ofLineage,
    examples: ['kubectl holdfast show web-0 latest~1 -n team-a --key-file team-a.key'],
    load: async () => (await import('./checkpoints.ts')).show,
  },
  {
    name: 'checkpoint',
    usage: ['POD'],
    summary: 'take a checkpoint now',
    details: 'Asks the agent of the pod by exec, with your own rights, and waits until the checkpoint is durable.',
    options: [],
    examples: ['kubectl holdfast checkpoint web-0 -n team-a'],
    load: async () => (await import('./checkpoint.ts')).checkpoint,
  },
  {
    name: 'rollback',
    usage: ['KIND/NAME --to WHICH'],
    summary: 'start the pods of a workload again from an older checkpoint',
    details: `Sets holdfast.dev/restore-at on the template, which starts the pods again by the workload's own strategy, follows them, and shows their
receipts. WHICH: 6 or more digits of an id (see ls), or a time, which means the newest checkpoint made until then. Without --yes it only
says what it would do.`,
    options: ['to', 'yes', 'timeout'],
    examples: ['kubectl holdfast rollback statefulset/web --to 2026-03-01T12:00Z --yes -n team-a'],
    load: async () => (await import('./rollback.ts')).rollback,
  },
  {
    name: 'restore',
    usage: ['POD|KIND/NAME --target DIR'],
    summary: 'bring a checkpoint back into a directory of this machine',
    details: 'Reads the store from this machine, and changes nothing in the cluster. --to names an older checkpoint.',
    options: [...ofLineage, 'target', 'to'],
    examples: ['kubectl holdfast restore web-0 -n team-a --key-file team-a.key --target ./look'],
    load: async () => (await import('./checkpoints.ts')).restore,
  },
  {
    name: 'offboard',
    usage: ['KIND/NAME'],
    summary: 'let a workload go on without Holdfast; what is stored stays',
    details: `Takes the annotations out of its template, which starts its pods again: each agent saves once more and seals before it ends. Without
--yes it only says what it would do.`,
    options: ['yes'],
    examples: ['kubectl holdfast offboard deployment/cache -n team-a --yes'],
    load: async () => (await import('./offboard.ts')).offboard,
  },
  {
    name: 'doctor',
    usage: [''],
    summary: 'check the cluster, the webhook, its certificate, and your rights',
    details: `Versions of API server and kubelets (1.29 or newer), clocks, the registration of the webhook and its CA, its replicas, its settings, a
trial pod that is admitted and not created (dry run), pods that ask for protection and have none, and what you may do. Exit code 31: a check
has failed. Stores are checked by holdfast doctor.`,
    options: [],
    examples: ['kubectl holdfast doctor -n team-a'],
    load: async () => (await import('./doctor.ts')).doctor,
  },
];
