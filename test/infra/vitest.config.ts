import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/infra/**/*.test.ts'],
    testTimeout: 60_000,
    // loading CDK takes as long as most of the tests, so it is loaded once for all of them
    isolate: false,
  },
});
