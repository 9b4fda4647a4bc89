import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LineageWriter, type Committed, Rebased } from '../../../src/engine/lineage/lineage-writer.ts';
import { utf8Bytes } from '../../../src/engine/model/bytes.ts';
import { HoldfastError } from '../../../src/engine/model/errors.ts';
import { recordIdText, toHolderId } from '../../../src/engine/model/ids.ts';
import { runs } from '../../support/arbitraries.ts';
import { checkpoint, type CreateFault, Killed, MemoryHolder, World } from './fixture.ts';

/**
 * Several holders, each with processes that are killed and started again, on one log: steps of one run inside the requests of
 * another, replies get lost, requests come late, junk lies about. Whatever happens, what was acknowledged stays, in one line.
 */
type Step =
  | { readonly do: 'claim'; readonly who: number; readonly take: boolean; readonly policy: 'pod' | 'person' }
  | { readonly do: 'commit' | 'partial' | 'seal' | 'kill' | 'die'; readonly who: number }
  /** Dies while it waits for the reply of a commit; starts again; what was in flight lands before its next commit, or later. */
  | { readonly do: 'crash'; readonly who: number; readonly lands: boolean }
  | { readonly do: 'land' }
  | { readonly do: 'junk'; readonly above: number };

const who = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('claim' as const),
      who,
      take: fc.boolean(),
      policy: fc.constantFrom('pod' as const, 'person' as const),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'commit' as const,
        'commit' as const,
        'partial' as const,
        'seal' as const,
        'kill' as const,
        'die' as const,
      ),
      who,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('crash' as const), who, lands: fc.boolean() }) },
  { weight: 1, arbitrary: fc.constant({ do: 'land' as const }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('junk' as const), above: fc.integer({ min: 1, max: 3 }) }) },
);
const fault: fc.Arbitrary<CreateFault> = fc.constantFrom(
  'ok',
  'ok',
  'ok',
  'lostReply',
  'lostRequest',
  'delayed',
  'killed',
);
const request = fc.record({ fault, meanwhile: fc.array(step, { maxLength: 2 }) });

const expectedCodes = ['E_FENCED', 'E_LINEAGE_HELD', 'E_DIVERGED', 'E_STORE_UNREACHABLE'];

describe('holders that get in each other’s way', () => {
  it('never lose, double or reorder what was acknowledged, and only one epoch goes on', async () => {
    const met = new Map<string, number>();
    const count = (what: string): void => {
      met.set(what, (met.get(what) ?? 0) + 1);
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 4, maxLength: 14 }),
        fc.array(request, { maxLength: 12 }),
        async (steps, requests) => {
          const world = await World.make({ encryption: 'none' });
          const holders = ['a', 'b', 'c'].map((name) => new MemoryHolder(name));
          const writers: (LineageWriter | undefined)[] = [undefined, undefined, undefined];
          const busy = new Set<number>();
          const acknowledged: (Committed & { readonly epoch: number })[] = [];
          const script = [...requests];
          let late = 0;

          const run = async (next: Step): Promise<void> => {
            if (next.do === 'land') {
              if (late > 0) {
                late--;
                count(`land ${await world.store.land()}`);
              }
              return;
            }
            if (next.do === 'crash') {
              if (busy.has(next.who) || writers[next.who] === undefined) return;
              script.unshift({ fault: 'killed', meanwhile: [] });
              await run({ do: 'commit', who: next.who });
              await run({ do: 'claim', who: next.who, take: false, policy: 'person' });
              if (next.lands) await run({ do: 'land' });
              await run({ do: 'commit', who: next.who });
              return;
            }
            if (next.do === 'junk') {
              const head = await world.log.head();
              await world.put(head.empty + next.above - 1, utf8Bytes('junk'));
              return;
            }
            if (busy.has(next.who)) return;
            busy.add(next.who);
            try {
              await act(next, writers[next.who]);
            } catch (error) {
              if (error instanceof Killed) writers[next.who] = undefined;
              else if (error instanceof Rebased) count(error.adopted ? 'adopted' : 'skipped');
              else if (error instanceof HoldfastError && expectedCodes.includes(error.code)) count(error.code);
              else throw error;
            } finally {
              busy.delete(next.who);
            }
          };

          const act = async (
            next: Step & { readonly who: number },
            writer: LineageWriter | undefined,
          ): Promise<void> => {
            const holder = holders[next.who]!;
            switch (next.do) {
              case 'claim':
                writers[next.who] = undefined;
                writers[next.who] = await world.claim(holder, { take: next.take, policy: next.policy });
                count('claimed');
                return;
              case 'kill':
                writers[next.who] = undefined;
                return;
              case 'die':
                writers[next.who] = undefined;
                world.liveness.gone.add(toHolderId(holder.state.holder));
                holders[next.who] = new MemoryHolder(`${holder.state.holder}x`);
                return;
              case 'seal':
                await writer?.seal();
                return;
              default:
                if (writer === undefined) return;
                acknowledged.push({
                  ...(await checkpoint(writer, { kind: next.do === 'partial' ? 'PARTIAL' : 'CHECKPOINT' })),
                  epoch: writer.epoch,
                });
                count('committed');
            }
          };

          world.store.beforeCreate = async () => {
            const now = script.shift() ?? { fault: 'ok' as const, meanwhile: [] };
            for (const other of now.meanwhile) await run(other);
            world.store.script = [now.fault];
            if (now.fault === 'delayed' || now.fault === 'killed') late++;
          };
          for (const next of steps) await run(next);
          world.store.beforeCreate = undefined;
          world.store.script = [];
          while (late-- > 0) await world.store.land();

          const story = [];
          for await (const record of world.log.records()) story.unshift(record);
          for (const [i, { header }] of story.entries()) {
            const before = story[i - 1];
            expect(header.predecessor).toEqual(before && { slot: before.header.slot, digest: before.digest });
            if (before === undefined) continue;
            // Epochs follow one another and never interleave.
            expect(header.epoch === before.header.epoch || header.kind === 'CLAIM').toBe(true);
            if (header.kind === 'CLAIM') expect(header.previousClaim).toBe(Number(before.header.epoch));
          }
          const valid = new Map(story.map(({ header }) => [header.slot, header]));
          for (const { slot, id, epoch } of acknowledged) {
            const header = valid.get(slot);
            expect(header === undefined ? 'lost' : recordIdText(header.id)).toBe(recordIdText(id));
            expect(header?.epoch).toBe(epoch);
          }
          // No object is junk that somebody believed in: what is void was put there as junk.
          for await (const { slot, reading } of world.log.entries()) {
            if (!reading.valid) expect([slot, reading.reason]).toEqual([slot, 'not-a-record']);
          }
          // And the lineage can always be taken and written.
          const last = await world.claim(new MemoryHolder('z'), { take: true });
          for (let tries = 0; ; tries++) {
            try {
              await checkpoint(last);
              break;
            } catch (error) {
              if (!(error instanceof Rebased) || tries > 20) throw error;
            }
          }
        },
      ),
      runs(150),
    );
    for (const what of [
      ...expectedCodes.slice(0, 3),
      'claimed',
      'committed',
      'adopted',
      'skipped',
      'land created',
      'land exists',
    ]) {
      expect([...met.keys()]).toContain(what);
    }
  });
});
