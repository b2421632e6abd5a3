import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/soak/**/*.test.ts'],
    testTimeout: 2_400_000,
    hookTimeout: 180_000,
    // each file has the machine to itself
    fileParallelism: false,
  },
});
