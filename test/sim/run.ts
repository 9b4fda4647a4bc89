import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Break, breaks, isBreak } from './breaks.ts';
import { Crash } from './scheduler.ts';
import { type SimulationOptions, type SimulationResult, simulate } from './simulation.ts';

/**
 * `npm run sim -- --seed N [--trace]` runs one world, `--seeds COUNT [--from N]` many, after those of seeds.txt, which failed once.
 * `--break RULE` switches a rule off, and something must be found. The exit status is 1 when something was.
 */
const usage = `npm run sim -- [--seed N] [--seeds COUNT] [--from N] [--break RULE] [--store port|bucket] [--slow-claims] [--trace]
Rules that can be broken:
${Object.entries(breaks)
  .map(([name, what]) => `  ${name.padEnd(14)} ${what}`)
  .join('\n')}`;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    from: { type: 'string' },
    break: { type: 'string', multiple: true },
    store: { type: 'string' },
    'slow-claims': { type: 'boolean' },
    trace: { type: 'boolean' },
    counts: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});

if (values.help) {
  console.log(usage);
  process.exit(0);
}
const broken = new Set<Break>();
for (const name of values.break ?? []) {
  if (!isBreak(name)) {
    console.error(usage);
    process.exit(2);
  }
  broken.add(name);
}

const store = values.store;
if (store !== undefined && store !== 'port' && store !== 'bucket') {
  console.error(usage);
  process.exit(2);
}
const chosen: Pick<SimulationOptions, 'store' | 'slowClaims'> = {
  ...(store === undefined ? {} : { store }),
  ...(values['slow-claims'] ? { slowClaims: true } : {}),
};

let unhandled: unknown;
process.on('unhandledRejection', (error) => {
  if (!(error instanceof Crash)) unhandled ??= error;
});

/** They failed before there were worlds with a bucket. */
const keptSeeds: ReadonlySet<number> = new Set(
  readFileSync(new URL('seeds.txt', import.meta.url), 'utf8')
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .map(Number),
);

const started = performance.now();
const totals = new Map<string, number>();
let passed = 0;
let failed = 0;
let steps = 0;
for (const seed of seedsToRun()) {
  const result = await simulate({
    seed,
    broken,
    ...(keptSeeds.has(seed) ? { store: 'port' } : {}),
    ...chosen,
    ...(values.trace ? { onLine: (line) => console.log(line) } : {}),
  });
  steps += result.steps;
  for (const [what, count] of result.counts) totals.set(what, (totals.get(what) ?? 0) + count);
  const violation = result.violation ?? unhandled;
  unhandled = undefined;
  if (violation === undefined) passed++;
  else {
    failed++;
    report(result, violation);
  }
  if (values.seed !== undefined) console.log(`seed ${seed}: ${result.steps} steps, trace ${result.digest}`);
}
if (values.counts) {
  for (const [what, count] of [...totals].sort(([a], [b]) => (a < b ? -1 : 1))) console.log(`  ${count} ${what}`);
}
console.log(`${steps} steps in ${((performance.now() - started) / 1000).toFixed(1)} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

function seedsToRun(): number[] {
  if (values.seed !== undefined) return [Number(values.seed)];
  const from = Number(values.from ?? 1);
  const count = Number(values.seeds ?? 50);
  const kept = broken.size > 0 ? [] : keptSeeds;
  return [...kept, ...Array.from({ length: count }, (_, i) => from + i)];
}

function report(result: SimulationResult, violation: unknown): void {
  if (!values.trace) for (const line of result.lines.slice(-60)) console.log(`    ${line}`);
  const cause = violation instanceof Error ? violation.cause : undefined;
  console.log(`seed ${result.seed} FAILED after ${result.steps} steps: ${String(violation)}`);
  const stack = (cause ?? violation) instanceof Error ? ((cause ?? violation) as Error).stack : undefined;
  if (stack !== undefined) console.log(stack);
  const rules =
    [...broken].map((rule) => ` --break ${rule}`).join('') + (store === undefined ? '' : ` --store ${store}`);
  console.log(
    `    again: npm run sim -- --seed ${result.seed}${rules}${values['slow-claims'] ? ' --slow-claims' : ''} --trace`,
  );
}
