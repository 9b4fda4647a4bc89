import { constants } from 'node:os';

/** The number of an errno on this machine; of those that Node knows. */
export function errnoNumber(name: keyof typeof constants.errno): number {
  return constants.errno[name];
}
