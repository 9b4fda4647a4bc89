import { type KubectlCommand, kubectlCommands } from './commands.ts';
import { commonOptions, type KubectlOptionName, kubectlOptions } from './options.ts';

export function kubectlHelp(): string {
  const width = Math.max(...kubectlCommands.map(({ name }) => name.length));
  return `kubectl holdfast: what is kept of the ephemeral volumes of a cluster, and what to do about it.

Usage: kubectl holdfast COMMAND [OPTIONS]

Commands:
${kubectlCommands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n')}
  ${'help'.padEnd(width)}  show the help of a command: kubectl holdfast help COMMAND
  ${'version'.padEnd(width)}  show the version

It does everything with your own rights, and reads no key from the cluster. Kubernetes 1.29 or newer.
`;
}

export function kubectlCommandHelp(command: KubectlCommand): string {
  const names = [...new Set([...command.options, ...commonOptions])];
  const width = Math.max(...names.map((name) => optionText(name).length));
  const usage = command.usage.map((line) => `  kubectl holdfast ${command.name} ${line}`.trimEnd()).join('\n');
  return `kubectl holdfast ${command.name}: ${command.summary}

Usage:
${usage}

${command.details}

Options:
${names.map((name) => `  ${optionText(name).padEnd(width)}  ${kubectlOptions[name].help}`).join('\n')}

Examples:
${command.examples.map((line) => `  ${line}`).join('\n')}
`;
}

function optionText(name: KubectlOptionName): string {
  const { short, value } = kubectlOptions[name];
  return `${short === undefined ? '    ' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`;
}
