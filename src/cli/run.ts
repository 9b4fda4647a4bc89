/** Runs one command and says what went wrong, with a code and a remedy. */
import { HoldfastError } from '../engine/model/errors.ts';
import { nearest } from '../engine/model/nearest.ts';
import { type CommandInfo, commands } from './commands.ts';
import { generalHelp, commandHelp } from './help.ts';
import type { Host } from './host.ts';
import { parseOptions, usage } from './options.ts';
import { printError } from './print.ts';

/** Exit code of the process. */
export async function run(args: readonly string[], host: Host): Promise<number> {
  const [name, ...rest] = args;
  try {
    if (name === undefined || name === '--help' || name === '-h') {
      (name === undefined ? host.stderr : host.stdout).write(generalHelp());
      return name === undefined ? 2 : 0;
    }
    if (name === 'version' || name === '--version') {
      host.stdout.write(`holdfast ${host.version}\n`);
      return 0;
    }
    if (name === 'help') {
      host.stdout.write(rest[0] === undefined ? generalHelp() : commandHelp(commandOf(rest[0])));
      return 0;
    }
    const command = commandOf(name);
    const parsed = parseOptions(name, command.options, rest, host.env, command.repeatable);
    if (parsed.flag('help')) {
      host.stdout.write(commandHelp(command));
      return 0;
    }
    return await (await command.load())(host, parsed);
  } catch (error) {
    const failure = asFailure(error, host);
    printError(host, failure, wantsJson(rest, host));
    return failure.exit;
  }
}

function commandOf(name: string): CommandInfo {
  const command = commands.find((candidate) => candidate.name === name);
  if (command !== undefined) return command;
  const near = nearest(
    name,
    commands.map((candidate) => candidate.name),
  );
  throw usage('', `there is no command ${JSON.stringify(name)}${near === undefined ? '' : `; did you mean ${near}?`}`);
}

const limits: ReadonlySet<unknown> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN']);

function asFailure(error: unknown, host: Host): HoldfastError {
  if (error instanceof HoldfastError) return error;
  if (host.signal.aborted) return new HoldfastError('E_ABORTED', 'the command was interrupted', { cause: error });
  const message = error instanceof Error ? error.message : String(error);
  // A limit can be met anywhere, also where a module is loaded or a thread started.
  const errno = error instanceof Error ? ('errno' in error ? error.errno : undefined) : undefined;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (limits.has(errno) || limits.has(code)) {
    return new HoldfastError('E_LIMIT', `a limit of the process was met: ${message}`, { cause: error });
  }
  return new HoldfastError('E_INTERNAL', message, { cause: error });
}

/** Also when the options themselves are wrong. */
function wantsJson(args: readonly string[], host: Host): boolean {
  const at = args.lastIndexOf('--output');
  if (args.includes('--output=json') || (at >= 0 && args[at + 1] === 'json')) return true;
  return at < 0 && host.env['HOLDFAST_OUTPUT'] === 'json';
}
