/** There is more to look at than is worth it by name, or it lies too deep: walk everything. */
export class TooManyChanges extends Error {
  override readonly name = 'TooManyChanges';
}
