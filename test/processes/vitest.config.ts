import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/processes/**/*.test.ts'],
    testTimeout: 60_000,
    // a tenth of the time that a file waits for a process
    maxWorkers: availableParallelism() + 1,
  },
});
