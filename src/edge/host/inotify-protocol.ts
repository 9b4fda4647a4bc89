import type { ChangeCount, UnknownReason } from '../../engine/model/changes.ts';

export interface InotifyThreadData {
  readonly rootDescriptor: number;
  /** An eventfd: the thread sleeps until it is written to, or an event comes. */
  readonly wake: number;
  readonly namesMax: number;
  /** One word: not zero once the thread is to end. */
  readonly ended: SharedArrayBuffer;
}

export interface InotifyOrder {
  readonly id: number;
  readonly kind: 'count' | 'take';
}

/** Key texts and whether a directory came as a whole. */
export type TakenNames =
  | { readonly kind: 'names'; readonly names: readonly (readonly [string, boolean])[] }
  | { readonly kind: 'everything'; readonly reason: UnknownReason };

export type InotifyReply =
  | { readonly type: 'watching'; readonly directories: number }
  | { readonly type: 'failed'; readonly why: string; readonly errno: string }
  | { readonly type: 'count'; readonly id: number; readonly count: ChangeCount }
  | { readonly type: 'taken'; readonly id: number; readonly taken: TakenNames };
