import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ClaimQuestion, decideClaim, type EpochFacts } from '../../../src/engine/lineage/claim-rule.ts';
import { toEpoch, toHolderId, toSlot } from '../../../src/engine/model/ids.ts';
import { runs } from '../../support/arbitraries.ts';

const me = toHolderId('me');

function epoch(claim: number, holder: string, more: { sealed?: boolean; committed?: number } = {}): EpochFacts {
  const { sealed = false, committed = 0 } = more;
  return {
    epoch: toEpoch(claim),
    holder: toHolderId(holder),
    holderName: holder,
    sealed,
    committed: toSlot(committed),
  };
}

function ask(more: Partial<Omit<ClaimQuestion, 'gone' | 'includes'>> & { gone?: string[]; includes?: number }) {
  const { gone = [], includes = 0, ...rest } = more;
  return decideClaim({
    me,
    epochs: [],
    policy: 'pod',
    used: true,
    gone: new Set(gone.map(toHolderId)),
    includes: toSlot(includes),
    ...rest,
  });
}

describe('who may claim, pods', () => {
  it('whoever never claimed is the successor, even of a predecessor that still writes', () => {
    expect(ask({})).toEqual({ action: 'claim' });
    expect(ask({ epochs: [epoch(4, 'a', { committed: 6 })] })).toEqual({ action: 'claim' });
  });

  it('a holder reuses its newest claim, sealed or not', () => {
    expect(ask({ epochs: [epoch(9, 'me'), epoch(4, 'a')] })).toEqual({ action: 'reuse', epoch: 9 });
    expect(ask({ epochs: [epoch(9, 'me', { sealed: true, committed: 10 })] })).toEqual({ action: 'reuse', epoch: 9 });
  });

  it('a holder that was superseded waits while anyone above may be alive', () => {
    const epochs = [epoch(12, 'b'), epoch(9, 'a'), epoch(4, 'me')];
    expect(ask({ epochs })).toEqual({ action: 'wait', holders: ['b', 'a'] });
    expect(ask({ epochs, gone: ['b'] })).toEqual({ action: 'wait', holders: ['a'] });
    expect(ask({ epochs, gone: ['a'] })).toEqual({ action: 'wait', holders: ['b'] });
  });

  it('gets its lineage back when all above are gone and committed nothing', () => {
    const epochs = [epoch(12, 'b'), epoch(9, 'a'), epoch(4, 'me', { committed: 8 })];
    expect(ask({ epochs, gone: ['a', 'b'] })).toEqual({ action: 'claim' });
  });

  it('is diverged when one that is gone committed over its app', () => {
    const over = epoch(9, 'a', { committed: 10 });
    const epochs = [epoch(12, 'b'), over, epoch(4, 'me', { committed: 8 })];
    expect(ask({ epochs, gone: ['a', 'b'] })).toEqual({ action: 'diverged', over });
  });

  it('may claim over a commit when no app ever ran on its volumes, or they contain it', () => {
    const epochs = [epoch(9, 'a', { committed: 10 }), epoch(4, 'me')];
    expect(ask({ epochs, gone: ['a'], used: false })).toEqual({ action: 'claim' });
    expect(ask({ epochs, gone: ['a'], includes: 10 })).toEqual({ action: 'claim' });
    expect(ask({ epochs, gone: ['a'], includes: 9 })).toMatchObject({ action: 'diverged' });
  });

  it('a SEAL does not count as gone: its pod may reopen it', () => {
    const epochs = [epoch(9, 'a', { sealed: true }), epoch(4, 'me')];
    expect(ask({ epochs })).toEqual({ action: 'wait', holders: ['a'] });
  });
});

describe('who may claim, people', () => {
  it('a lineage is free only if its log is empty, its newest record is a SEAL, or its holder is known to be gone', () => {
    const policy = 'person';
    expect(ask({ policy })).toEqual({ action: 'claim' });
    expect(ask({ policy, epochs: [epoch(4, 'a', { sealed: true, committed: 5 })] })).toEqual({ action: 'claim' });
    expect(ask({ policy, epochs: [epoch(4, 'a')], gone: ['a'] })).toEqual({ action: 'claim' });
    expect(ask({ policy, epochs: [epoch(4, 'a')] })).toEqual({ action: 'wait', holders: ['a'] });
    expect(ask({ policy, epochs: [epoch(4, 'a')], used: false })).toEqual({ action: 'wait', holders: ['a'] });
  });

  it('only the newest holder is in the way: those below are fenced', () => {
    const epochs = [epoch(9, 'b', { sealed: true }), epoch(4, 'a')];
    expect(ask({ policy: 'person', epochs })).toEqual({ action: 'claim' });
  });

  it('whoever gave a lineage away has to restore what was committed since', () => {
    const over = epoch(9, 'b', { sealed: true, committed: 10 });
    const epochs = [over, epoch(4, 'me', { sealed: true, committed: 5 })];
    expect(ask({ policy: 'person', epochs })).toEqual({ action: 'diverged', over });
    expect(ask({ policy: 'person', epochs, includes: 10 })).toEqual({ action: 'claim' });
  });
});

describe('the rule', () => {
  const holders = ['me', 'a', 'b', 'c'];
  const logs = fc
    .array(fc.record({ holder: fc.constantFrom(...holders), sealed: fc.boolean(), commits: fc.boolean() }), {
      maxLength: 5,
    })
    .map((epochs) =>
      epochs
        .map(({ holder, sealed, commits }, i) =>
          epoch(3 * i + 1, holder, { sealed, committed: commits ? 3 * i + 2 : 0 }),
        )
        .reverse(),
    );

  it('never lets a superseded pod claim over one not known to be gone, nor over a commit its volumes lack', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(logs, fc.subarray(holders.slice(1)), fc.boolean(), fc.nat(16), (epochs, gone, used, includes) => {
        const decision = ask({ epochs, gone, used, includes });
        seen.add(decision.action);
        const mine = epochs.findIndex(({ holder }) => holder === me);
        if (decision.action !== 'claim' || mine < 0) return;
        for (const above of epochs.slice(0, mine)) {
          expect(gone).toContain(above.holder);
          if (used) expect(above.committed).toBeLessThanOrEqual(includes);
        }
      }),
      runs(2000),
    );
    expect([...seen].sort()).toEqual(['claim', 'diverged', 'reuse', 'wait']);
  });
});
