import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/interop/**', 'test/infra/**', 'test/soak/**', 'node_modules/**'],
    testTimeout: 30_000,
    // files leave nothing behind, in any order; loading the SDK anew for each of them is a tenth of the time
    isolate: false,
    // of two cores one would be left to the servers, which are in the same process
    maxWorkers: '100%',
  },
});
