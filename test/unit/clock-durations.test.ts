/**
 * How long something takes is measured by time that only goes by: somebody may set the clock of the machine meanwhile, and then
 * nothing ends early, waits for days, or falls silent.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test, vi } from 'vitest';
import { createEventHub } from '../../core/agent/event-hub.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Files in which the time of day itself is meant. */
const timeOfDay = new Set([
  // Compared with times that the file system keeps.
  ...['core/models/import-model.ts', 'core/store/blobs.ts'],
  // Dates in a certificate and of an invitation.
  ...['core/enrolment/authority.ts', 'core/agent/enrolment-registry.ts'],
  // Compared with times in the store or in a message.
  ...['core/transport/outbox-relay.ts', 'core/agent/site-role.ts'],
  // Sees that it was set.
  'core/coordinator/wall-clock.ts',
]);

afterEach(() => vi.useRealTimers());

test('nowhere else the time of day is asked for a number', () => {
  const sources = ['core', 'electron'].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => path.join(folder, name).replaceAll(path.sep, '/')),
  );

  const asking = sources.filter((file) => /\bDate\.now\(/.test(readFileSync(path.join(root, file), 'utf8')));

  expect(asking.sort()).toEqual([...timeOfDay].sort());
});

test('progress is shown although the clock was set back', () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const hub = createEventHub();
  const seen: number[] = [];
  hub.listen((event) => void (event.type === 'progress' && seen.push(event.step)));
  const progress = { type: 'progress', runId: 'run', round: 0, siteId: 'a', steps: 2, loss: null } as const;

  hub.emit({ ...progress, step: 1 });
  vi.setSystemTime(Date.now() - 86_400_000);
  const until = performance.now() + 5_000;
  while (seen.length < 2 && performance.now() < until) hub.emit({ ...progress, step: 2 });

  expect(seen).toEqual([1, 2]);
});
