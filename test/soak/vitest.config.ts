import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/soak/**/*.test.ts'],
    testTimeout: 2_400_000,
    hookTimeout: 180_000,
    // one file runs at a time
    fileParallelism: false,
  },
});
