/** A record that is known outside of the store: what a store that hides or has lost its newest records is found by. */
import { fromHex, toHex } from './bytes.ts';
import { HoldfastError } from './errors.ts';
import { type Slot, slotMax, toSlot } from './ids.ts';

export interface Anchor {
  readonly slot: Slot;
  readonly digest: Uint8Array;
}

/** `SLOT:DIGEST` with 64 hexadecimal digits. E_USAGE otherwise. */
export function parseAnchor(text: string): Anchor {
  const match = /^([1-9]\d{0,12}):([0-9a-f]{64})$/.exec(text);
  const digest = match && fromHex(match[2] as string);
  if (!match || !digest || Number(match[1]) > slotMax) {
    throw new HoldfastError('E_USAGE', `${JSON.stringify(text.slice(0, 100))} is not SLOT:DIGEST`);
  }
  return { slot: toSlot(Number(match[1])), digest };
}

export function printAnchor({ slot, digest }: Anchor): string {
  return `${slot}:${toHex(digest)}`;
}
