import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/interop/**/*.test.ts'],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    // the tools share the machine's two cores; one after the other they are faster than at once
    fileParallelism: false,
  },
});
