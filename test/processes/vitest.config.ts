import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { LIMITS } from '../support/limits.ts';

export default defineConfig({
  test: {
    include: ['test/processes/**/*.test.ts'],
    ...LIMITS,
    setupFiles: ['test/support/constant-seed.ts'],
    // a tenth of the time that a file waits for a process
    maxWorkers: availableParallelism() + 1,
  },
});
