/** The commands, their options and texts. Each is loaded when it is run. */
import type { Host } from './host.ts';
import { errorCatalogue } from '../engine/model/errors.ts';
import type { OptionName, Parsed } from './options.ts';

export interface CommandInfo {
  readonly name: string;
  readonly usage: readonly string[];
  readonly summary: string;
  readonly details: string;
  readonly options: readonly OptionName[];
  /** Options that may be given several times here, and once elsewhere. */
  readonly repeatable?: readonly OptionName[];
  readonly examples: readonly string[];
  load(): Promise<(host: Host, parsed: Parsed) => Promise<number>>;
}

const reading: readonly OptionName[] = ['store', 'key-file', 'encryption', 'output'];
const oneLineage: readonly OptionName[] = [...reading, 'lineage'];

const whichCheckpoint = `Which checkpoint: latest, latest~2 (the second before it), a slot, 6 or more digits of an id, or a time
such as 2026-03-01T12:00Z, which means the newest made until then.`;

export const commands: readonly CommandInfo[] = [
  {
    name: 'init',
    usage: ['--store ADDRESS --key-file FILE', '--store ADDRESS --encryption none'],
    summary: 'make a repository and its key',
    details: `Makes the repository in the store, and the key file (mode 0600) when it does not exist yet. Keep a copy of the key
elsewhere: without it nothing can be restored.

A store in the network is tried out first: it has to refuse to overwrite, also when many write at once. One that does not is
refused, unless you give --unfenced: then two writers of one lineage are not told apart, and every command says so.`,
    options: ['store', 'key-file', 'encryption', 'unfenced', 'output'],
    examples: ['holdfast init --store file:/srv/checkpoints --key-file repository.key'],
    load: async () => (await import('./init.ts')).init,
  },
  {
    name: 'checkpoint',
    usage: ['DIR', 'VOLUME=DIR...'],
    summary: 'store what changed in a directory, or in several volumes as one set',
    details: `Walks the directories, stores what changed since the lineage's newest checkpoint, and makes one new checkpoint of
all of them. A bare DIR is the volume \`data\`. Passes go on until one meets no change (converged), or the bound is met
(fuzzy, with the names that moved). Exit code 3: the checkpoint exists, but some files could not be read.

With --quiesced you state that the application has stopped. The checkpoint is quiesced if the second pass meets no change
and no file can have a writer (read leases, which need the files' owner or root, and Linux); else it is converged or
fuzzy, and what spoke against it is named.

With --sqlite-locks every SQLite database, recognised by its header, is held under SQLite's own shared locks from before the
second pass to after the last: it and its -wal or -journal are stored as they stood at one moment, even where other
files keep moving. Readers go on; writers wait meanwhile, or get SQLITE_BUSY where they have no timeout. Nothing is
written or made in the directory. Which databases were held and which could not be, and why, is told.

With --isolated each chunk is compressed by itself. Where others can write into the volume, that keeps what they write from
sharing a frame with a secret, which would get shorter when they guess it. Many small files then take more bytes.

When 16 small packs have gathered, or enough of some packs is dead, what is in use moves into new packs on the way (at most 64 MiB
and 5 s of a checkpoint); roots do not change. --no-compact leaves that out.

A volume that is empty, or that keeps less than a fifth of the files or of the bytes of the last good checkpoint, makes the
checkpoint suspect: complete, but not what is restored by default, until \`holdfast ack\` releases it or a later one is good
again. Exit code ${errorCatalogue.E_SUSPECT.exit}. --guard says how much must be left: 50% of each volume, db=80% of a path, logs:archive=50% of a path of one
volume, 0% for anything but empty, off for no guard. A fuzzy checkpoint in which files of a PostgreSQL cluster moved is suspect, too.

With --dry-run it only computes the root: equal roots mean equal content, names and metadata.`,
    options: [
      ...oneLineage,
      'state-dir',
      'include',
      'exclude',
      'level',
      'isolated',
      'dry-run',
      'take',
      'seal',
      'passes',
      'converge-within',
      'quiesced',
      'sqlite-locks',
      'sqlite-wait',
      'partial-bytes',
      'lanes',
      'label',
      'no-cache',
      'no-compact',
      'limit-upload',
      'guard',
    ],
    examples: [
      'holdfast checkpoint /var/lib/app --lineage team/app/0',
      'holdfast checkpoint data=/srv/data logs=/var/log/app --lineage team/app/0 --exclude "*.tmp"',
      'holdfast checkpoint /var/lib/app --lineage team/app/0 --sqlite-locks',
      'holdfast checkpoint /var/lib/app --lineage team/app/0 --dry-run',
    ],
    load: async () => (await import('./checkpoint.ts')).checkpoint,
  },
  {
    name: 'ack',
    usage: ['', 'SLOT|ID'],
    summary: 'release a suspect checkpoint, which held much less than the one before',
    details: `Says that what looked like a loss was meant: the newest suspect checkpoint of the lineage, or the one that is named, counts
like any other from now on. It is restored by default, and later ones are compared with it. The release is signed, names the
record by its digest, and stands beside the log; nothing is changed or taken away.`,
    options: [...oneLineage, 'reason'],
    examples: [
      'holdfast ack --lineage team/app/0 --reason "old tenants were removed"',
      'holdfast ack 41 --lineage team/app/0',
    ],
    load: async () => (await import('./ack.ts')).ack,
  },
  {
    name: 'restore',
    usage: ['--target DIR', '--target VOLUME=DIR...'],
    summary: 'bring a checkpoint back into directories, and prove that it is equal',
    details: `Restores into an empty or missing directory; of several volumes each into DIR/VOLUME. Every byte is proven before it is
written, and what stands there at the end is compared with the checkpoint. A restore that was killed is resumed by the
same command. Exit code 3: it is done, but something could not be restored as it was (owners without the right, say).
A target that was restored before and was not changed since counts as done.
${whichCheckpoint}`,
    options: [
      ...oneLineage,
      'state-dir',
      'at',
      'target',
      'volume',
      'only',
      'first',
      'on-existing',
      'continue-on-damage',
      'limit-download',
      'lanes',
    ],
    examples: [
      'holdfast restore --lineage team/app/0 --target /var/lib/app',
      'holdfast restore --lineage team/app/0 --at latest~2 --target /srv/look --only "conf/**"',
      'holdfast restore --lineage team/app/0 --target data=/srv/data --target logs=/var/log/app',
    ],
    load: async () => (await import('./restore.ts')).restore,
  },
  {
    name: 'rehydrate',
    usage: ['--pod-uid UID --volume NAME=DIR...'],
    summary: 'init container: bring the volumes of a pod back before its application starts',
    details: `Waits, bounded, for the final checkpoint of the predecessor, restores the newest good checkpoint into the volumes, claims the
lineage for the pod, applies what came meanwhile, and looks once more whether the claim stands. Run again in the same pod it goes on
where it was; volumes that an application may have used are left alone. What was done and why is told by the receipt, which goes to
the state directory, stdout, the store, and the termination message. See docs/rehydrate.md.

No data has three answers, each with a policy: nothing was ever stored (--on-first-boot), it is missing or damaged (--on-missing), the
store cannot be reached (--on-unreachable). empty begins with nothing; block waits, and with a deadline ends with exit code 33;
older:1h takes an older checkpoint, if it was made at most an hour ago.`,
    options: [
      ...oneLineage,
      'volume',
      'state-dir',
      'pod-uid',
      'pod-name',
      'service',
      'service-token-file',
      'service-ca-file',
      'service-ca',
      'expect',
      'restore-at',
      'on-first-boot',
      'on-missing',
      'on-unreachable',
      'handoff-wait',
      'slots',
      'replicas',
      'when-held',
      'claim-wait',
      'size-limit',
      'restore-first',
      'limit-download',
      'termination-message',
      'lanes',
    ],
    repeatable: ['volume'],
    examples: [
      'holdfast rehydrate --lineage team/app/0 --volume data=/vol --state-dir /run/holdfast --pod-uid "$POD_UID"',
      'holdfast rehydrate --lineage team/app/0 --volume data=/vol --size-limit data=1GiB --on-missing block:10m --pod-uid "$POD_UID"',
    ],
    load: async () => (await import('./rehydrate.ts')).rehydrateContainer,
  },
  {
    name: 'webhook',
    usage: [
      '--settings FILE --tls-cert FILE --tls-key FILE',
      '--settings FILE --tls-secret NAMESPACE/NAME --tls-name NAME --webhook-configuration NAME',
    ],
    summary: 'admission webhook: inject the containers into pods that ask for it',
    details: `Answers AdmissionReviews of pods on POST /mutate, over TLS only. Pods that do not say holdfast.dev/inject: "true" are let through
as they are. Annotations that cannot be read refuse the pod, with what is wrong and what to do. GET /healthz, /readyz and /metrics are
answered as well, everything else with 404. Settings and certificate are read again when they change; what cannot be used is said, and
what was in use stays. See docs/kubernetes.md and docs/annotations.md.

With --tls-secret the webhooks need no files and nobody else for their certificate: they make it in that Secret, which has to be
there, renew it in time, and put the CA into the webhook configuration. Inside of a pod only, with the rights that the chart gives.`,
    options: [
      'settings',
      'tls-cert',
      'tls-key',
      'tls-secret',
      'tls-name',
      'tls-validity',
      'webhook-configuration',
      'service-ca-file',
      'pod-service',
      'namespace-defaults',
      'listen',
      'drain',
      'log-level',
    ],
    examples: [
      'holdfast webhook --settings settings.json --tls-cert tls.crt --tls-key tls.key',
      'holdfast webhook --settings settings.json --tls-cert tls.crt --tls-key tls.key --listen 127.0.0.1:8443',
    ],
    load: async () => (await import('./webhook.ts')).webhook,
  },
  {
    name: 'ls',
    usage: ['', '--lineage NAME'],
    summary: 'list the lineages, or the checkpoints of one',
    details: `Without --lineage: each lineage by name, with its newest checkpoint and who holds it. With it: its checkpoints, newest first,
and records that cannot be verified, which count for nothing.`,
    options: [...oneLineage, 'all'],
    examples: ['holdfast ls', 'holdfast ls --lineage team/app/0 --output json'],
    load: async () => (await import('./ls.ts')).ls,
  },
  {
    name: 'show',
    usage: ['[WHICH]'],
    summary: 'show one checkpoint in full',
    details: whichCheckpoint,
    options: [...oneLineage, 'at'],
    examples: ['holdfast show --lineage team/app/0', 'holdfast show latest~1 --lineage team/app/0'],
    load: async () => (await import('./show.ts')).show,
  },
  {
    name: 'cat',
    usage: ['PATH'],
    summary: 'write the content of one file of a checkpoint to stdout',
    details: `PATH is relative to the volume. Each part is proven before it is written.\n${whichCheckpoint}`,
    options: [...oneLineage, 'at', 'volume'],
    examples: ['holdfast cat conf/app.json --lineage team/app/0 --at latest~1'],
    load: async () => (await import('./cat.ts')).cat,
  },
  {
    name: 'diff',
    usage: ['A B'],
    summary: 'show what differs between two checkpoints of a lineage',
    details: `Names that were added (+), removed (-) or changed (M) from A to B. Parts that are equal are not read.
${whichCheckpoint}`,
    options: oneLineage,
    examples: ['holdfast diff latest~1 latest --lineage team/app/0'],
    load: async () => (await import('./diff.ts')).diff,
  },
  {
    name: 'verify',
    usage: ['', '--lineage NAME', '--read-data'],
    summary: 'prove that what is stored can be restored',
    details: `Checks every record's signature and chain, and of each lineage's newest checkpoint (with --all: of every one) the trees,
the places of all content, and the tables of all packs. With --read-data also every byte. Exit code 19: damage, with the
objects and the files that it costs.`,
    options: [...oneLineage, 'at', 'all', 'read-data', 'lanes'],
    examples: ['holdfast verify', 'holdfast verify --lineage team/app/0 --read-data'],
    load: async () => (await import('./verify.ts')).verify,
  },
  {
    name: 'copy',
    usage: ['--from ADDRESS --to ADDRESS', '--from ADDRESS --to ADDRESS --lineage NAME... --follow'],
    summary: 'copy lineages to a second store, and keep it close behind',
    details: `Copies the repository, its wrapped keys, and of all lineages, or of those named, every record with what it needs, in
order: at any moment the second store can be restored from. What is there already is not copied again, so a copy that was
interrupted goes on where it was. The first store is only read; in the second, objects are only created. Make it with
--init the first time: a store that is not mounted must not look like a new one.

Records are verified by the public key beside the wrapped keys, which needs no secret, and packs by their frame and
length. With --key-file every byte is opened and proven on its way.

With --follow it goes on until it is interrupted, through outages of either store, and says how far behind each lineage is,
once a minute and when that changes. A lineage that somebody has written to in the second store, as after a fail-over, is
left alone: exit code 16. Exit code 19: records were passed over, because objects of theirs are missing or damaged.`,
    options: ['from', 'to', 'lineage', 'key-file', 'init', 'follow', 'every', 'output'],
    repeatable: ['lineage'],
    examples: [
      'holdfast copy --from file:/srv/checkpoints --to s3://copies/app --init',
      'holdfast copy --from s3://checkpoints --to "s3://copies?region=eu-west-1" --lineage team/app/0 --follow --every 5s',
    ],
    load: async () => (await import('./copy.ts')).copy,
  },
  {
    name: 'doctor',
    usage: ['', '--lineage NAME', '--policies [--lineage NAME]'],
    summary: 'check a store, its settings, and what these credentials may do in it',
    details: `One page of checks, each ok, warning or failed, with its remedy; unknown where the store does not answer. Of a bucket: it
can be reached, holds a repository that the key opens, refuses to overwrite (tried with a few small objects below v1/probe/,
which are removed again), lists in order, its clock, versions and object lock, rules that would delete checkpoints, a rule
that ends unfinished uploads, encryption, and unfinished uploads. Of a directory: hard links, sync, space, permissions, and
its file system. Exit code 31: a check has failed.

With --policies it prints the smallest policy of each role, for one lineage or for all: agent (creates below its lineage,
reads what it needs), restore, gc (lists, deletes, writes its decisions), people (pins, releases), setup (init, keys). Then it
asks the store what these credentials may do, by requests that change nothing, and says which role they exceed or lack.`,
    options: [...oneLineage, 'policies'],
    examples: [
      'holdfast doctor',
      'holdfast doctor --lineage team/app/0 --output json',
      'holdfast doctor --policies --lineage team/app/0',
    ],
    load: async () => (await import('./doctor.ts')).doctor,
  },
  {
    name: 'keys',
    usage: ['', 'make --lineage NAME', 'rotate', 'rotate --lineage NAME', 'grant --workload NAME'],
    summary: 'show which keys the repository has, or make new data keys',
    details: `The id of the repository key, which reveals nothing of it, and the data keys of each domain. A domain is a
lineage's name without its last part; its replicas share keys.
With make the lineage's domain gets its keys before its first checkpoint, which else makes them: writers then need no right to.
With rotate each domain, or only that of one lineage, gets a new data key: what is written from then on is encrypted with
it. Nothing is stored anew, and older data keys stay, since what they encrypted needs them. Processes that run already
go on with the key they know. Who has read a domain's keys is not shut out by this: store its data in a new lineage.
With grant the keys of one workload, and no others, are printed as a Secret of Kubernetes for its namespace, where its pods mount it:
the repository key never comes into a pod. Once more after rotate, since a grant holds the keys that there were.`,
    options: [...reading, 'lineage', 'workload'],
    examples: [
      'holdfast keys --store file:/srv/checkpoints --key-file repository.key',
      'holdfast keys rotate --lineage team/app/0',
      'holdfast keys grant --workload prod/team-a/deployment/web | kubectl apply -f -',
    ],
    load: async () => (await import('./keys.ts')).keys,
  },
  {
    name: 'agent',
    usage: ['--lineage NAME --volume VOLUME=DIR... --pod-uid UID --schedule WHEN --state-dir DIR'],
    summary: "keep a pod's volumes safe, from its start to its end",
    details: `The sidecar. It claims the lineage, takes a checkpoint at once, and then whenever the schedule says so and something has
changed. While the store does not answer it waits and goes on trying. With \`holdfast notify\` it takes checkpoints one after
the other; at SIGTERM it waits, as long as there is grace, until nobody uses the volumes any more, saves the rest, and seals
the lineage. What is not saved then stands in the seal, the log and the termination message.

Its log is JSON lines on stdout. It is asked over the socket agent.sock in the state directory: holdfast status.
Exit code 3: sealed, but something was not saved; 15: a successor has the lineage.`,
    options: [
      'store',
      'key-file',
      'encryption',
      'lineage',
      'volume',
      'state-dir',
      'pod-uid',
      'pod-name',
      'schedule',
      'volume-schedule',
      'rpo',
      'grace',
      'include',
      'exclude',
      'level',
      'isolated',
      'passes',
      'converge-within',
      'sqlite-locks',
      'sqlite-wait',
      'partial-bytes',
      'lanes',
      'label',
      'guard',
      'no-compact',
      'size-limit',
      'hook-pre-checkpoint',
      'hook-post-checkpoint',
      'hook-post-restore',
      'hook-timeout',
      'limit-upload',
      'not-nice',
      'service',
      'service-token-file',
      'service-ca-file',
      'service-ca',
      'port',
      'metrics-port',
      'token-file',
      'log-level',
      'termination-message',
    ],
    repeatable: ['volume'],
    examples: [
      'holdfast agent --lineage team/app/0 --volume data=/vol --state-dir /run/holdfast --pod-uid "$POD_UID" --schedule 10s',
    ],
    load: async () => (await import('./agent.ts')).agent,
  },
  {
    name: 'notify',
    usage: ['--state-dir DIR'],
    summary: 'tell the agent that its pod is about to end',
    details: `The preStop hook of the sidecar: the agent begins to take checkpoints one after the other. Returns at once.`,
    options: ['state-dir', 'output'],
    examples: ['holdfast notify --state-dir /run/holdfast'],
    load: async () => (await import('./notify.ts')).notify,
  },
  {
    name: 'trigger',
    usage: ['--state-dir DIR'],
    summary: 'have the agent take a checkpoint now',
    details: `Waits until the checkpoint is durable, or nothing has changed since the newest one. \`kubectl holdfast checkpoint POD\` runs it in the pod.`,
    options: ['state-dir', 'output'],
    examples: ['holdfast trigger --state-dir /run/holdfast'],
    load: async () => (await import('./trigger.ts')).trigger,
  },
  {
    name: 'status',
    usage: ['--state-dir DIR'],
    summary: 'show what the agent knows: the newest durable checkpoint, what is unsaved, what is wrong',
    details: `Asks the agent. Where none runs any more, shows what it knew last, with \`live\` false.`,
    options: ['state-dir', 'running', 'output'],
    examples: ['holdfast status --state-dir /run/holdfast --output json'],
    load: async () => (await import('./status.ts')).status,
  },
];
