import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/interop/**', 'test/infra/**', 'test/soak/**', 'node_modules/**'],
    testTimeout: 30_000,
    // of two cores one would be left to the servers, which are in the same process
    maxWorkers: '100%',
  },
});
