import { defineConfig } from 'vitest/config';

/**
 * The red team: `npm run test:attack`. Each file starts agents of its own and measures what an attacker gains, some of it
 * by the clock, so the files run one after the other.
 */
export default defineConfig({
  test: {
    include: ['test/attack/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 90_000,
    hookTimeout: 90_000,
  },
});
