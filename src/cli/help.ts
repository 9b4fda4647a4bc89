import { errorCatalogue } from '../engine/model/errors.ts';
import { type CommandInfo, commands } from './commands.ts';
import { type OptionInfo, type OptionName, options, variableOf } from './options.ts';

export function generalHelp(): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return `holdfast keeps the data of ephemeral volumes alive beyond their pod.

Usage: holdfast COMMAND [OPTIONS]

Commands:
${commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n')}
  ${'help'.padEnd(width)}  show the help of a command: holdfast help COMMAND
  ${'version'.padEnd(width)}  show the version

Every option can also come from the environment: --key-file from HOLDFAST_KEY_FILE.
Exit codes: 0 done, 2 wrong usage, 3 done but incomplete, others by error code (docs/errors.md).
`;
}

export function commandHelp(command: CommandInfo): string {
  const rows = command.options.map((name) => [optionText(name), options[name].help, variableOf(name)] as const);
  const width = Math.max(...rows.map(([left]) => left.length));
  return `holdfast ${command.name}: ${command.summary}

Usage:
${command.usage.map((line) => `  holdfast ${command.name} ${line}`.trimEnd()).join('\n')}

${command.details}

Options:
${rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n')}

Examples:
${command.examples.map((line) => `  ${line}`).join('\n')}

Exit codes: 0 done, 2 wrong usage, ${errorCatalogue.E_INCOMPLETE.exit} done but incomplete, ${errorCatalogue.E_ABORTED.exit} interrupted; see docs/errors.md.
`;
}

function optionText(name: OptionName): string {
  const info: OptionInfo = options[name];
  return `--${name}${info.value === undefined ? '' : ` ${info.value}`}${info.many === true ? ' ...' : ''}`;
}
