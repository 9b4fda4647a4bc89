/** Runs one command of the plugin and says what went wrong, with a code and a remedy. */
import { HoldfastError } from '../engine/model/errors.ts';
import { nearest } from '../engine/model/nearest.ts';
import { printError } from '../cli/print.ts';
import { type KubectlCommand, kubectlCommands } from './commands.ts';
import { kubectlCommandHelp, kubectlHelp } from './help.ts';
import type { KubectlHost } from './host.ts';
import { kubectlUsage, parseKubectl } from './options.ts';

/** Exit code of the process. */
export async function runKubectl(args: readonly string[], host: KubectlHost): Promise<number> {
  const [name, ...rest] = args;
  try {
    if (name === undefined || name === '--help' || name === '-h') {
      (name === undefined ? host.stderr : host.stdout).write(kubectlHelp());
      return name === undefined ? 2 : 0;
    }
    if (name === 'version' || name === '--version') {
      host.stdout.write(`kubectl-holdfast ${host.version}\n`);
      return 0;
    }
    if (name === 'help') {
      host.stdout.write(rest[0] === undefined ? kubectlHelp() : kubectlCommandHelp(commandOf(rest[0])));
      return 0;
    }
    const command = commandOf(name);
    const parsed = parseKubectl(name, command.options, rest);
    if (parsed.flag('help')) {
      host.stdout.write(kubectlCommandHelp(command));
      return 0;
    }
    return await (await command.load())(host, parsed);
  } catch (error) {
    const failure = asFailure(error, host);
    printError(host, failure, rest.join(' ').match(/(?:-o|--output)[ =]json\b/) !== null);
    return failure.exit;
  }
}

function commandOf(name: string): KubectlCommand {
  const command = kubectlCommands.find((candidate) => candidate.name === name);
  if (command !== undefined) return command;
  const near = nearest(
    name,
    kubectlCommands.map((candidate) => candidate.name),
  );
  const hint = near === undefined ? '' : `; did you mean ${near}?`;
  throw kubectlUsage('', `there is no command ${JSON.stringify(name)}${hint}`);
}

function asFailure(error: unknown, { signal }: KubectlHost): HoldfastError {
  if (error instanceof HoldfastError) return error;
  if (signal.aborted) return new HoldfastError('E_ABORTED', 'the command was interrupted', { cause: error });
  const message = error instanceof Error ? error.message : String(error);
  return new HoldfastError('E_INTERNAL', message, { cause: error });
}
