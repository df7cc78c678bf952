import { defineConfig } from 'vitest/config';

/** A short fixed set of the chaos machine: `npm run test:chaos`. Each starts a federation, so they run one after the other. */
export default defineConfig({
  test: {
    include: ['test/chaos/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 1_000_000,
    hookTimeout: 60_000,
  },
});
