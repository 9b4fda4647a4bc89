/** Writes docs/kubectl.md from the tables that the plugin's own help comes from: `node tools/kubectl-page.ts`. */
import { writeFileSync } from 'node:fs';
import { kubectlCommands } from '../src/kubectl/commands.ts';
import { kubectlCommandHelp } from '../src/kubectl/help.ts';

const top = `# kubectl holdfast

Made from the plugin's own help by \`node tools/kubectl-page.ts\`; a test compares the two.

\`bin/kubectl-holdfast\` of a checkout, in a directory of \`PATH\`, is what \`kubectl holdfast\` runs; it needs no installation beside. \`node tools/krew.ts\` makes
an archive of it and a manifest for krew. Kubernetes 1.29 or newer, which \`doctor\` checks.

**With whose rights.** Everything is done with the caller's own rights: the identity of the kubeconfig, and for the store the caller's credentials and key
file. The plugin reads no key from the cluster; of a Secret it asks only whether it is there. What a command needs:

| command | rights in the cluster |
|---|---|
| \`explain -f FILE --settings FILE\` | none |
| \`explain\`, \`ls\`, \`show\`, \`restore\` | to get the pod or workload; to list mutatingwebhookconfigurations and get the ConfigMap of the webhook, or \`--settings FILE\`; where namespaces may say something, to get the Deployment of the webhook and the namespace |
| \`inventory\` | to list pods; with \`--live\` to create pods/exec |
| \`checkpoint\` | to get the pod, and to create pods/exec |
| \`rollback\`, \`offboard\` | to get and patch the workload, and to list pods |
| \`doctor\` | whatever it has; what it may not ask is said to be unknown |

**Settings.** \`explain\` decides by the code of the webhook with the settings of the webhook: the ConfigMap that the chart makes, found by the registration. A
manifest comes to pods as the controllers would make them: with owner, labels and index.

**Exit codes** are those of [errors.md](errors.md), and 1 where a question was answered in the bad sense: \`explain\` found a pod that would be refused,
\`inventory\` a volume that is failing or behind.

`;

export function kubectlPage(): string {
  const sections = kubectlCommands.map(
    (each) => `## ${each.name}\n\n\`\`\`\n${kubectlCommandHelp(each).trim()}\n\`\`\`\n`,
  );
  return `${top}${sections.join('\n')}`;
}

if (import.meta.main) writeFileSync(new URL('../docs/kubectl.md', import.meta.url), kubectlPage());
