import { defineConfig } from 'vitest/config';
import { LIMITS } from '../support/limits.ts';

export default defineConfig({
  test: {
    include: ['test/infra/**/*.test.ts'],
    ...LIMITS,
    setupFiles: ['test/support/constant-seed.ts'],
    // loading CDK takes as long as most of the tests, so it is loaded once for all of them
    isolate: false,
  },
});
