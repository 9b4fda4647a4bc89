/** A pipeline of toy jobs for tests of lanes: each job is JSON, each reply too. */
import { utf8Bytes } from '../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../src/engine/model/errors.ts';
import type { CreatePipeline } from '../../src/edge/host/lane-endpoint.ts';

export interface ToyJob {
  /** Parts to emit, as numbers of bytes; 0 only ends the pack. */
  readonly parts?: readonly number[];
  readonly pack?: number;
  readonly end?: boolean;
  readonly fail?: 'typed' | 'plain' | 'exit';
  readonly echo?: unknown;
}

export interface ToyReply {
  readonly kind: string;
  readonly lane: number;
  readonly lanes: number;
  readonly settings: unknown;
  /** Jobs of this lane so far. */
  readonly jobs: number;
  readonly echo: unknown;
  /** Bytes of the further buffers, and the first byte of each. */
  readonly buffers: readonly [number, number | null][];
}

/** Byte `i` of part `part` of a pack: what the consumer must see. */
export function toyByte(pack: number, part: number, i: number): number {
  return (pack * 31 + part * 7 + i) & 0xff;
}

export const createToyPipeline: CreatePipeline = ({ kind, lane, lanes, settings }, emit) => {
  if ((settings as { broken?: boolean } | undefined)?.broken === true) {
    throw new HoldfastError('E_KEY_WRONG', 'these settings make no pipeline');
  }
  let jobs = 0;
  return {
    run({ bytes, buffers = [] }) {
      jobs++;
      const { parts = [], pack = 0, end = false, fail, echo } = JSON.parse(new TextDecoder().decode(bytes)) as ToyJob;
      // One buffer for all parts, as the packs do it: a part is only valid during the call.
      const buffer = new Uint8Array(Math.max(0, ...parts));
      for (const [part, length] of parts.entries()) {
        for (let i = 0; i < length; i++) buffer[i] = toyByte(pack, part, i);
        emit(pack, buffer.subarray(0, length), end && part === parts.length - 1);
        buffer.fill(0xee);
      }
      if (fail === 'typed') {
        throw new HoldfastError('E_TARGET_FULL', 'the disk of the test is full', {
          details: { path: 'a/b', left: 12 },
          remedy: 'Nothing: this is a test.',
          cause: new Error('ENOSPC'),
        });
      }
      if (fail === 'plain') throw new TypeError('a defect');
      if (fail === 'exit') process.exit(7);
      const seen = buffers.map((one): [number, number | null] => [one.length, one[0] ?? null]);
      const reply: ToyReply = { kind, lane, lanes, settings, jobs, echo, buffers: seen };
      return { bytes: utf8Bytes(JSON.stringify(reply)) };
    },
  };
};
