/**
 * Versions of what stands in a store. A reader refuses what is newer than it knows with E_FORMAT_NEWER, once it is sure that
 * the object is genuine; junk that claims to be newer stays junk. docs/format.md, "Versions".
 */

/** Of the repository as a whole: layout of keys, chunking, tree. Stands in the repository object. */
export const formatVersion = 1;

/** Kinds of signed objects; the number stands in the envelope. */
export const objectType = { repository: 1, domainKey: 2, record: 3, packTable: 4, release: 5, receipt: 6 } as const;

export type ObjectType = (typeof objectType)[keyof typeof objectType];

/** Of each kind of signed object, the highest version this code writes and reads. */
export const objectVersion: Readonly<Record<ObjectType, number>> = {
  [objectType.repository]: 1,
  [objectType.domainKey]: 1,
  [objectType.record]: 1,
  [objectType.packTable]: 1,
  [objectType.release]: 1,
  [objectType.receipt]: 1,
};
