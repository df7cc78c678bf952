/** How the screens react to the agent's events, on the real query cache. */
import { QueryClient } from '@tanstack/react-query';
import { expect, test } from 'vitest';
import { createEventHandler } from '../../renderer/api/events.ts';
import { keys } from '../../renderer/api/queries.ts';

const progress = {
  type: 'progress',
  runId: 'run-1',
  round: 0,
  siteId: 'site-a',
  step: 1,
  steps: 9,
  loss: 1,
} as const;

function createCache() {
  const queries = new QueryClient();
  const remember = () => {
    queries.setQueryData(keys.run('run-1'), {});
    queries.setQueryData(keys.audit, {});
  };
  const isStale = (key: readonly string[]) => queries.getQueryState(key)?.isInvalidated;
  return { handle: createEventHandler(queries), remember, isStale };
}

test('the first step of a site in a round asks for the run again, further steps do not', () => {
  const { handle, remember, isStale } = createCache();

  remember();
  handle(progress);
  expect(isStale(keys.run('run-1'))).toBe(true);

  remember();
  handle({ ...progress, step: 2 });
  expect(isStale(keys.run('run-1'))).toBe(false);

  handle({ ...progress, siteId: 'site-b' });
  expect(isStale(keys.run('run-1'))).toBe(true);
});

test('a change is asked for again where it shows, and nowhere else', () => {
  const { handle, remember, isStale } = createCache();
  remember();

  handle({ type: 'changed', what: 'audit' });

  expect(isStale(keys.audit)).toBe(true);
  expect(isStale(keys.run('run-1'))).toBe(false);
});
