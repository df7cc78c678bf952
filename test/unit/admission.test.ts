/** How long a site is kept out, whatever the clock does. */
import { expect, test } from 'vitest';
import { dismissalOf } from '../../core/coordinator/admission.ts';
import type { SiteRecord } from '../../core/store/records.ts';

const startMs = Date.parse('2026-11-22T12:00:00.000Z');
const at = (minutes: number) => new Date(startMs + minutes * 60_000).toISOString();

test('a site that was kept out while the clock was days ahead is heard again when it is right', () => {
  const site = { dismissedUntil: at(15), dismissalReason: 'a flood' } as SiteRecord;

  expect(dismissalOf(site, at(0))).toMatchObject({ reason: 'a flood' });
  expect(dismissalOf(site, at(16))).toBeNull();
  expect(dismissalOf(site, at(-2 * 24 * 60))).toBeNull();
});
