import { defineConfig } from 'vitest/config';

// Real processes, brokers and browsers run in these tests; two cores are shared, so few files run at once.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/smoke/**', 'test/attack/**', 'test/chaos/**', 'test/bench/**', 'node_modules/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 180_000,
    hookTimeout: 120_000,
    // A page or a process may be slow when the other core is busy; what never comes still fails.
    expect: { poll: { timeout: 20_000 } },
  },
});
