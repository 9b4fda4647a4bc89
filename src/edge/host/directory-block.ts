/** The last step of every listing: records and names in one buffer become a block, without the names that vanished. */
import { type DirectoryBlock, statOffset, statRecordBytes } from '../../engine/model/stat-record.ts';

const recordWords: number = statRecordBytes / 4;
const nameStartWord: number = statOffset.nameStart / 4;

/**
 * `buffer` holds records, of which the first `count` are filled, and from `namesStart` their names in the same order.
 * Records at the ascending indices `vanished` are left out, and so are their names, so that equal directories give equal
 * bytes.
 */
export function blockOfRecords(
  buffer: ArrayBuffer,
  namesStart: number,
  count: number,
  vanished: readonly number[] = [],
): DirectoryBlock {
  const words = new Uint32Array(buffer, 0, count * recordWords);
  const namesBytes = count === 0 ? 0 : nameEnd(words, count - 1);
  if (vanished.length === 0) {
    return {
      count,
      records: new Uint8Array(buffer, 0, count * statRecordBytes),
      names: new Uint8Array(buffer, namesStart, namesBytes),
    };
  }
  const names = new Uint8Array(buffer, namesStart, namesBytes);
  let kept = 0;
  let at = 0;
  let gone = 0;
  for (let i = 0; i < count; i++) {
    if (vanished[gone] === i) {
      gone++;
      continue;
    }
    const start = words[i * recordWords + nameStartWord] as number;
    const end = nameEnd(words, i);
    names.copyWithin(at, start, end);
    words.copyWithin(kept * recordWords, i * recordWords, (i + 1) * recordWords);
    words[kept * recordWords + nameStartWord] = at;
    at += end - start;
    kept++;
  }
  return {
    count: kept,
    records: new Uint8Array(buffer, 0, kept * statRecordBytes),
    names: names.subarray(0, at),
  };
}

/** End of a record's name, its zero byte included. */
function nameEnd(words: Uint32Array, index: number): number {
  const word = index * recordWords + nameStartWord;
  return (words[word] as number) + (words[word + 1] as number) + 1;
}
