/** Where this user's private state is. */
import { join } from 'node:path';
import { HoldfastError } from '../engine/model/errors.ts';
import type { Host } from './host.ts';
import type { Parsed } from './options.ts';

/** E_STATE_DIR where nothing says it. */
export function stateDirectoryOf(host: Host, parsed: Parsed): string {
  const given = parsed.text('state-dir');
  if (given !== undefined && given !== '') return host.realPath(given);
  const { XDG_STATE_HOME: state, HOME: home } = host.env;
  if (state?.startsWith('/')) return join(state, 'holdfast');
  if (home !== undefined && home !== '') return join(home, '.local', 'state', 'holdfast');
  throw new HoldfastError('E_STATE_DIR', 'there is no home directory to keep state in', {
    remedy: 'Give a writable directory with --state-dir DIR.',
  });
}
