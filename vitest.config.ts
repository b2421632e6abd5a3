import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { LIMITS } from './test/support/limits.ts';

/** Files that change what all modules of a process share, such as its environment or its list of secrets. */
const ALONE = ['test/flows/proxy.test.ts', 'test/unit/util/own-secrets.test.ts'];
/** Files whose processes are simulated: all that happens in them is decided by a seed, so they must not wait for threads. */
const SIMULATED = ['test/unit/store/collect.test.ts', 'test/unit/store/collect-model.test.ts'];
const OTHER_SUITES = ['test/interop/**', 'test/infra/**', 'test/processes/**', 'test/soak/**', 'node_modules/**'];

export default defineConfig({
  test: {
    ...LIMITS,
    // a tenth of the time a file waits: for a server in its own process, a lease, a child
    maxWorkers: availableParallelism() + 1,
    setupFiles: ['test/support/constant-seed.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'shared',
          include: ['test/**/*.test.ts', 'local/test/**/*.test.ts'],
          exclude: [...OTHER_SUITES, ...ALONE, ...SIMULATED],
          // loading modules anew for each file took half of the time
          isolate: false,
          setupFiles: ['test/support/fresh-file.ts'],
        },
      },
      { extends: true, test: { name: 'alone', include: ALONE } },
      // a module that another file loaded before would not have the replacement
      { extends: true, test: { name: 'simulated', include: SIMULATED, setupFiles: ['test/support/sync-zstd.ts'] } },
    ],
  },
});
