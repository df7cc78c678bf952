import { defineConfig } from 'vitest/config';

/** The packaged app, taken out of the checkout: `npm run dist:dir && npm run test:smoke`. */
export default defineConfig({
  test: {
    include: ['test/smoke/**/*.test.ts'],
    globalSetup: ['test/smoke/take-package-out.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 240_000,
    hookTimeout: 60_000,
  },
});
