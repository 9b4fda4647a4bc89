import type { DomainKeys } from '../format/keys.ts';
import type { LeafItem } from '../format/tree-node.ts';
import { compareBytes } from '../model/bytes.ts';
import type { TreeRoot } from '../model/checkpoint.ts';
import type { NodeSource } from '../tree/node-access.ts';
import { scanTree } from '../tree/tree-reader.ts';
import type { ScanOperation } from './scan.ts';

/**
 * Without a scan cache every name is reported, so the base is read beside the walk: its entries give the hints, and what it
 * has but the walk does not is deleted.
 */
export class BaseMerge {
  readonly #leaves: AsyncGenerator<readonly LeafItem[]>;
  #leaf: readonly LeafItem[] = [];
  #index = 0;
  #ended = false;
  #found = new Map<Uint8Array, LeafItem>();

  constructor(base: TreeRoot, source: NodeSource, keys: DomainKeys) {
    this.#leaves = scanTree(base, source, keys);
  }

  /** The operations with deletions of what the base has between them. */
  async align(operations: readonly ScanOperation[]): Promise<ScanOperation[]> {
    const aligned: ScanOperation[] = [];
    this.#found = new Map();
    for (const operation of operations) {
      // The walk cannot know what the base has; everything it passes over falls out here.
      if (operation.kind !== 'read' && operation.kind !== 'hardlink') continue;
      for (;;) {
        const item = this.#leaf[this.#index];
        if (item === undefined) {
          if (this.#ended) break;
          const step = await this.#leaves.next();
          if (step.done === true) {
            this.#ended = true;
            break;
          }
          this.#leaf = step.value;
          this.#index = 0;
          continue;
        }
        const order = compareBytes(item.key, operation.key);
        if (order > 0) break;
        this.#index++;
        if (order === 0) {
          this.#found.set(operation.key, item);
          break;
        }
        aligned.push({ kind: 'delete', key: item.key });
      }
      aligned.push(operation);
    }
    return aligned;
  }

  /** Of an operation of the batch aligned last. */
  entryOf(key: Uint8Array): LeafItem | undefined {
    return this.#found.get(key);
  }

  async *rest(): AsyncGenerator<Uint8Array> {
    for (;;) {
      for (; this.#index < this.#leaf.length; this.#index++) yield (this.#leaf[this.#index] as LeafItem).key;
      if (this.#ended) return;
      const step = await this.#leaves.next();
      if (step.done === true) return;
      this.#leaf = step.value;
      this.#index = 0;
    }
  }
}
