import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/infra/**/*.test.ts'],
    testTimeout: 60_000,
    // to load CDK takes as long as most of the tests: once for all of them
    isolate: false,
  },
});
