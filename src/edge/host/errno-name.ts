/** Symbolic names of errno numbers, the same for every implementation of the file tree. */
import { constants } from 'node:os';

/** Errnos that Linux file systems give and Node has no name for. */
const linuxOnly: Readonly<Record<string, number>> = {
  ENOTBLK: 15,
  ENODEV: 19,
  ENOMEDIUM: 123,
  EMEDIUMTYPE: 124,
  EREMOTEIO: 121,
  EUCLEAN: 117,
  ENOKEY: 126,
  EKEYEXPIRED: 127,
  EKEYREVOKED: 128,
  EKEYREJECTED: 129,
  ESHUTDOWN: 108,
};

/** Two names of one number: the one that Node's own errors carry. */
const preferred: readonly string[] = ['EAGAIN', 'ENOTSUP', 'EDEADLK'];

const names: ReadonlyMap<number, string> = (() => {
  const map = new Map<number, string>();
  if (process.platform === 'linux') for (const [name, number] of Object.entries(linuxOnly)) map.set(number, name);
  for (const [name, number] of Object.entries(constants.errno)) if (!map.has(number)) map.set(number, name);
  for (const name of preferred) {
    const number: number | undefined = (constants.errno as Readonly<Record<string, number>>)[name];
    if (number !== undefined) map.set(number, name);
  }
  return map;
})();

/** `ENOENT` for 2, and `E` with the number for one without a name. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `E${errno}`;
}
