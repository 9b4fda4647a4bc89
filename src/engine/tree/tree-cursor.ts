/**
 * A position in a stored tree, from its first key to its last, with one path of nodes in memory. What comes next is either an
 * item of the open leaf, or a subtree that may be entered or passed over whole.
 */
import type { InteriorNode, LeafNode, TreeNode } from '../format/tree-node.ts';
import { invariant } from '../model/errors.ts';
import type { NodeRef } from './node-access.ts';

interface Frame {
  readonly node: InteriorNode;
  /** Index of the child that comes next. */
  next: number;
  readonly upper: Uint8Array | undefined;
}

export class TreeCursor {
  readonly #path: Frame[] = [];
  /** The subtree that comes next, when it is known. */
  #subtree: NodeRef | undefined;
  #leaf: LeafNode | undefined;
  #leafRef: NodeRef | undefined;
  #index = 0;

  /** Before the first key below `root`; at the end when there is none. */
  constructor(root: NodeRef | undefined) {
    this.#subtree = root;
  }

  /** The open leaf, as long as it has items left. */
  get leaf(): LeafNode | undefined {
    return this.#leaf;
  }

  /** What was said of the open leaf. */
  get leafRef(): NodeRef | undefined {
    return this.#leafRef;
  }

  /** Index of the next item in the open leaf. */
  get index(): number {
    return this.#index;
  }

  /** Passes over items of the open leaf, up to `index`. */
  moveTo(index: number): void {
    invariant(this.#leaf !== undefined && index >= this.#index, 'a cursor moves forwards in an open leaf');
    this.#index = index;
    if (index >= this.#leaf.count) {
      this.#leaf = undefined;
      this.#leafRef = undefined;
    }
  }

  /** The subtree that comes next when no leaf is open; undefined at the end. */
  subtree(): NodeRef | undefined {
    if (this.#subtree !== undefined || this.#leaf !== undefined) return this.#subtree;
    for (;;) {
      const frame = this.#path[this.#path.length - 1];
      if (frame === undefined) return undefined;
      if (frame.next < frame.node.children.length) {
        this.#subtree = childRef(frame.node, frame.next, frame.upper);
        return this.#subtree;
      }
      this.#path.pop();
    }
  }

  /** The subtree after the next one, where both have the same parent: worth loading ahead. */
  sibling(): NodeRef | undefined {
    const frame = this.#path[this.#path.length - 1];
    if (frame === undefined) return undefined;
    const index = frame.next + (this.#subtree === undefined ? 0 : 1);
    return index < frame.node.children.length ? childRef(frame.node, index, frame.upper) : undefined;
  }

  /** Passes over the next subtree. */
  skip(): void {
    invariant(this.#subtree !== undefined, 'a cursor passes over a subtree it has seen');
    this.#subtree = undefined;
    const frame = this.#path[this.#path.length - 1];
    if (frame !== undefined) frame.next++;
  }

  /** Goes into the next subtree, whose node is `node`. */
  enter(node: TreeNode): void {
    const ref = this.#subtree;
    invariant(ref !== undefined, 'a cursor enters a subtree it has seen');
    this.skip();
    if ('children' in node) {
      this.#path.push({ node, next: 0, upper: ref.upper });
    } else {
      this.#leaf = node;
      this.#leafRef = ref;
      this.#index = 0;
    }
  }
}

export function childRef(node: InteriorNode, index: number, upper: Uint8Array | undefined): NodeRef {
  const child = node.children[index];
  invariant(child !== undefined, 'child of an interior node');
  return {
    level: node.level - 1,
    id: child.id,
    place: child.place,
    nodeBytes: child.nodeBytes,
    sums: child.sums,
    lower: child.separator,
    upper: node.children[index + 1]?.separator ?? upper,
  };
}
