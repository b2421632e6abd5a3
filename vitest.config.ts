import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts', 'local/test/**/*.test.ts'],
    exclude: ['test/interop/**', 'test/infra/**', 'test/soak/**', 'node_modules/**'],
    testTimeout: 30_000,
    // a tenth of the time a file waits: for a server in its own process, a lease, a child
    maxWorkers: availableParallelism() + 1,
  },
});
