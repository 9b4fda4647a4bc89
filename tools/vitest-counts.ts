import { appendFileSync, readFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestModule, TestRunEndReason } from 'vitest/node';
import { findServerProgram, serverNames } from '../test/servers/server-programs.ts';

/**
 * Hands the counts of a run to whoever asked for them, and lets nothing that did not run pass for a success.
 *
 * With HOLDFAST_COUNTS_FILE set, appends one JSON line `{"passed": n, "failed": n}` to that file. A module that cannot be
 * loaded and an error outside of any test count as one failure each. With CI set, a skipped test is a failure: there
 * every requirement of every test has to be there. A run of suites for S3 servers says which servers are missing; that all
 * are there is what the phase `s3` of `.ci/run` makes sure of.
 */
export default class CountsReporter implements Reporter {
  readonly #file = process.env['HOLDFAST_COUNTS_FILE'];

  constructor() {
    // A test that starts a run of its own must not have its counts added to these.
    delete process.env['HOLDFAST_COUNTS_FILE'];
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[], reason: TestRunEndReason): void {
    let passed = 0;
    let failed = errors.length;
    const skipped: string[] = [];
    for (const module of modules) {
      let failedHere = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed += 1;
        else if (state === 'failed') failedHere += 1;
        else skipped.push(`${module.relativeModuleId}: ${test.fullName}`);
      }
      // Failed without a failed test: it did not load, or a hook around its tests threw.
      failed += module.ok() ? failedHere : Math.max(1, failedHere);
    }
    if (skipped.length > 0 && process.env['CI']) {
      failed += skipped.length;
      process.exitCode = 1;
      process.stdout.write(`\nSKIPPED, which counts as failed here:\n${skipped.map((name) => `  ${name}\n`).join('')}`);
    }
    // A file that no test came from: with a server missing, Vitest alone would let a mistyped name pass.
    if (modules.length === 0) {
      failed += 1;
      process.exitCode = 1;
    }
    sayMissingServers(modules);
    if (reason === 'interrupted') failed += 1;
    if (this.#file) appendFileSync(this.#file, `${JSON.stringify({ passed, failed })}\n`);
  }
}

/** In one line, and only where a suite that ran would have used them. */
function sayMissingServers(modules: readonly TestModule[]): void {
  const missing = serverNames.filter((name) => findServerProgram(name) === undefined);
  if (missing.length === 0 || !modules.some(({ moduleId }) => usesServers(moduleId))) return;
  process.stdout.write(`\nNOT TESTED HERE: the S3 store on ${missing.join(', ')}. To install: npm run servers\n`);
}

function usesServers(path: string): boolean {
  return /\/s3-server\.ts'/.test(readFileSync(path, 'utf8'));
}
