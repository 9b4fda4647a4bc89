/** Writes docs/cli.md from the tables that the program's own help comes from: `node tools/cli-page.ts`. */
import { writeFileSync } from 'node:fs';
import { commands } from '../src/cli/commands.ts';
import { commandHelp } from '../src/cli/help.ts';
import { warningCatalogue } from '../src/cli/warnings.ts';

const top = `# The command line

Made from the program's own help by \`node tools/cli-page.ts\`; a test compares the two.

\`\`\`sh
export HOLDFAST_STORE=file:/srv/checkpoints HOLDFAST_KEY_FILE=repository.key HOLDFAST_LINEAGE=team/app/0
holdfast init
holdfast checkpoint /var/lib/app
holdfast restore --target /var/lib/app
\`\`\`

## Settings

Every option can come from the command line or from the environment: \`--key-file\` is \`HOLDFAST_KEY_FILE\`; what stands on the
command line wins. A switch is set by \`1\` or \`true\`, a list is separated by commas. A secret never stands on a command
line, where every user of the machine can read it: keys are files.

- **Store**: \`file:/path\` or \`s3://bucket/prefix\`, see [stores.md](stores.md). Only \`init\` makes it; a store that is missing is an error, never an
  empty one.
- **Lineage**: whose data it is, such as \`team/app/0\`. One holder writes a lineage at a time. Outside of a pod the holder is
  a random id in the state directory; the same user goes on without asking. Somebody else is refused until the lineage is
  sealed (\`checkpoint --seal\`) or taken over (\`--take\`).
- **State directory**: \`--state-dir\`, by default \`$XDG_STATE_HOME/holdfast\` or \`~/.local/state/holdfast\`. It holds who this
  holder is, caches that spare reading what did not change, and how far a restore has come. Losing it costs time, and a
  \`--take\` where a lineage was not sealed; never data.
- **Which checkpoint**: \`latest\`, \`latest~2\`, a slot, the first 6 or more digits of an id, or a time. A time means the newest
  checkpoint made until then; without an offset it is UTC.
- **Globs**: \`*\` and \`?\` stay inside a name, \`**\` crosses directories, a pattern without a slash matches at any depth.

Two variables are for those who must know what works below: \`HOLDFAST_COMPRESSOR\` (\`libzstd\`, \`zlib\`, \`zstd-codec\`) and
\`HOLDFAST_FILE_TREE\` (\`native\`, \`node\`). Without them the fastest that works is taken.

## Output

Results go to stdout, errors to stderr, progress to a terminal only. Colours follow \`NO_COLOR\` and \`FORCE_COLOR\`. Names that
cannot be printed are shown with \`\\xNN\` for each such byte. With \`--output json\` a result is one line:

| field of \`checkpoint\` and \`restore\` | meaning |
|---|---|
| \`root\` | 64 hexadecimal digits; equal roots of one lineage mean equal names, content and metadata; null for a dry run before a workload's first checkpoint |
| \`slot\`, \`id\` | which checkpoint; null for a dry run |
| \`files\`, \`entries\`, \`bytes\` | regular files (each further name of a file counts), all names, sum of sizes; of a restore all that is there at its end, also what was kept or written by an earlier run |
| \`newBytes\` | content that was not stored yet, before compression; of a restore: content that this run wrote |
| \`newFiles\` | of a restore: files whose content this run wrote; the rest stood there already, or are further names |
| \`storedBytes\` | what the store took, or what a restore read from it |
| \`requests\` | to the store, by kind |
| \`seconds\` | the whole command |
| \`consistency\` | \`quiesced\`, \`converged\` (a point in time) or \`fuzzy\` (some files moved while they were read; they are named) |
| \`skipped\` | names that are not in the checkpoint, by \`volume\` and \`reason\`, with \`count\` and the first \`names\` |
| \`incomplete\` | data is missing, or was not restored as it was; exit code 3, of a restore that lacks lost files 28 |
| \`suspect\`, \`suspicions\` | of a checkpoint: it is empty, holds much less than the last good one, or shows a PostgreSQL cluster in pieces (\`reason\`), where (\`volume\`, \`path\`), and how much there was \`before\` and is \`now\`; exit code 32 |
| \`volumes\` | by name, the same of each volume: its own \`root\`, \`files\`, \`bytes\`, \`newBytes\`, \`skipped\`, \`incomplete\`; \`slot\`, \`id\`, \`storedBytes\`, \`requests\` and \`seconds\` are the set's, since its volumes share record and packs; and more, such as \`volatileNames\`: files of SQLite that are stored as read, at whatever moment |
| \`refuted\` | of a checkpoint with \`--quiesced\`: what spoke against it, by \`volume\` and \`reason\`: \`changed\` between two passes, \`writer\` that cannot be ruled out; empty when it is quiesced |
| \`databases\`, \`databaseLockMs\` | of a checkpoint with \`--sqlite-locks\`: each database with \`volume\`, \`path\`, \`mode\` (\`rollback\`, \`wal\`), \`locked\` and else the \`reason\`; how long writers were kept waiting |
| \`passes\`, \`partials\`, \`dryRun\`, \`sealed\` | of a checkpoint |
| \`verified\` | of a restore: the target was compared as a whole; else only what was written was proven |
| \`rootExpected\`, \`rootGot\`, \`degraded\` | of a restore that is not equal: the roots, and why |
| \`damage\` | of a restore with \`--continue-on-damage\`: by volume the lost \`objects\` with the first names that each costs, \`subtrees\`, \`files\` |
| \`warnings\` | what to know though all went well, each with \`code\`, \`message\` and \`details\`; in text form a line each on stderr |
| \`unfenced\` | \`true\` where the repository was made \`--unfenced\`, by every command; in text form a line on stderr |
| \`compressor\`, \`fileTree\`, \`lanes\` | what did the work |

An error is one line on stderr: [errors.md](errors.md) lists every code with its exit code and remedy. A restore with
\`--first\` says on stderr when that part is complete: \`{"event":"first-complete",…}\`.

| warning | meaning |
|---|---|
${Object.entries(warningCatalogue)
  .map(([code, meaning]) => `| \`${code}\` | ${meaning} |`)
  .join('\n')}

`;

export function cliPage(): string {
  return `${top}${commands.map((command) => `## ${command.name}\n\n\`\`\`\n${commandHelp(command).trim()}\n\`\`\`\n`).join('\n')}`;
}

if (import.meta.main) writeFileSync(new URL('../docs/cli.md', import.meta.url), cliPage());
