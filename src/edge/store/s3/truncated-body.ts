/** The body of an answer ended before it was whole. */
export class TruncatedBody extends Error {
  readonly code = 'TruncatedBody';

  constructor(expected: number, got: number) {
    super(`the answer was to have ${expected} bytes and ended after ${got}`);
    this.name = 'TruncatedBody';
  }
}
