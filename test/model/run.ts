import { parseArgs } from 'node:util';
import { complaint, type Level, type Run, runs } from './runs.ts';

/**
 * Explores the protocol models: `node test/model/run.ts [--nightly] [--only NAME] [--trace]`. One line per run; `--only`
 * takes a part of a name, of any level; `--trace` prints the shortest way to each violation and to each dead end. The
 * exit status is 1 if a run did not find what it must find, or hit its limit.
 */
const { values } = parseArgs({
  options: { nightly: { type: 'boolean' }, only: { type: 'string' }, trace: { type: 'boolean' } },
});

const levels: readonly Level[] = values.nightly ? ['quick', 'check', 'nightly'] : ['quick', 'check'];
const chosen = runs.filter(({ name, level }) =>
  values.only === undefined ? levels.includes(level) : name.includes(values.only),
);
if (chosen.length === 0) {
  console.error(`no run has "${values.only}" in its name`);
  process.exit(2);
}

let failed = 0;
for (const run of chosen) if (!report(run)) failed++;
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

function report(run: Run): boolean {
  const start = performance.now();
  const outcome = run.explore();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const wrong = complaint(run, outcome);
  const ends = [...outcome.stuck.keys()].join(', ');
  const found =
    outcome.violation === undefined
      ? `${outcome.verdict}${ends === '' ? '' : `, ends in ${ends}`}`
      : `${outcome.violation.what}${run.expected.verdict === 'violation' ? ', as expected' : ''}`;
  console.log(
    `${wrong === undefined ? 'ok' : 'FAILED'}  ${run.name} [${run.bounds}]: ${outcome.states} states, ${found}, ${seconds} s`,
  );
  if (wrong !== undefined) console.log(`    ${wrong}`);
  if (values.trace) {
    console.log(`    ${run.sentence}`);
    for (const { what, trace } of [...outcome.stuck.values(), outcome.violation].filter((each) => each !== undefined)) {
      console.log(`    ${what}`);
      for (const label of trace) console.log(`      ${label}`);
    }
  }
  return wrong === undefined;
}
