import { availableParallelism } from 'node:os';
import { defineConfig, type ViteUserConfig } from 'vitest/config';
import { findServerProgram, serverNames, serversRequired } from './test/servers/server-programs.ts';

const shared = {
  environment: 'node',
  // Two busy cores must not turn a slow machine into a failed test; a test that waits for something has its own limit.
  testTimeout: 60_000,
  hookTimeout: 60_000,
} as const;

// Suites that run on the S3 servers that are there have no tests where one is missing. The reporter says which those are.
const serverIsMissing = serverNames.some((name) => findServerProgram(name) === undefined);

/** `fast` is what `npm test` runs; `slow` is for what takes many seconds and runs in a phase of its own in `.ci/run`. */
const config: ViteUserConfig = defineConfig({
  test: {
    // Files side by side on every core: left to itself, Vitest keeps one of two for its main process, which has little to do.
    maxWorkers: availableParallelism(),
    passWithNoTests: serverIsMissing && !serversRequired(),
    reporters: ['default', './tools/vitest-counts.ts'],
    projects: [
      { test: { ...shared, name: 'fast', include: ['test/**/*.test.ts'] } },
      // Needs a cluster, which `npm run test:cluster` makes.
      {
        test: {
          ...shared,
          name: 'cluster',
          include: ['test/cluster/**/*.scenario.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      { test: { ...shared, name: 'slow', include: ['test/**/*.slow.ts'], testTimeout: 900_000, hookTimeout: 900_000 } },
    ],
  },
});

export default config;
