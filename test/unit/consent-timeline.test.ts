import { expect, test } from 'vitest';
import { recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { consentTimeline } from '../../core/consent/timeline.ts';
import type { Store } from '../../core/store/store.ts';
import { openTestStore, type TestStore } from '../fixtures/store.ts';

const purpose = 'federated-training';
const grant = (store: Store, validFrom: string, expiresAt?: string, other: { purpose?: string } = {}) =>
  recordConsent(store, {
    ...{ pseudonym: 'P1', purpose, documentVersion: '1', recordedBy: 'desk', validFrom, expiresAt },
    ...other,
  });
const withdraw = (store: Store, one?: string) =>
  withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'desk', ...(one !== undefined && { purpose: one }) });
const changes = ({ store, clock }: TestStore) =>
  consentTimeline(store.consentEvents.ofSubject(1), clock.now.toISOString()).map(({ change, purpose: of }) =>
    of === purpose ? change : `${change} ${of}`,
  );
const later = ({ clock }: TestStore, iso: string) => {
  clock.now = new Date(iso);
};

test('renewals, shortened terms and ends are told apart, each purpose for itself', () => {
  using world = openTestStore('2026-01-10T12:00:00.000Z');
  const { store } = world;
  grant(store, '2026-01-01', '2026-06-30');
  grant(store, '2026-01-01', '2027-06-30');
  grant(store, '2026-01-05', undefined, { purpose: 'teaching' });
  grant(store, '2026-01-01', '2026-03-31');
  expect(changes(world)).toEqual(['granted', 'renewed', 'granted teaching', 'shortened']);

  later(world, '2026-04-15T12:00:00.000Z');
  expect(changes(world).at(-1)).toBe('ended');
  grant(store, '2026-04-15', '2026-12-31');
  withdraw(store, 'teaching');
  withdraw(store, 'teaching');
  expect(changes(world).slice(4)).toEqual(['ended', 'renewed', 'withdrawn teaching', 'refused teaching']);
});

test('a term that was replaced before its end has not ended', () => {
  using world = openTestStore('2026-01-10T12:00:00.000Z');
  grant(world.store, '2026-01-01', '2026-02-28');
  grant(world.store, '2026-01-01', '2026-12-31');
  later(world, '2026-04-01T00:00:00.000Z');
  expect(changes(world)).toEqual(['granted', 'renewed']);
  later(world, '2027-02-01T00:00:00.000Z');
  expect(changes(world)).toEqual(['granted', 'renewed', 'ended']);
});

test('a withdrawal without a consent is a refusal, and from every purpose it stands once', () => {
  using world = openTestStore('2026-01-10T12:00:00.000Z');
  world.store.subjects.upsert({ pseudonym: 'P1' });
  withdraw(world.store);
  expect(changes(world)).toEqual(['refused *']);
});

test('a term that was over while its subject had withdrawn has not ended again', () => {
  using world = openTestStore('2026-01-10T12:00:00.000Z');
  grant(world.store, '2026-01-01', '2026-02-28');
  withdraw(world.store);
  later(world, '2026-04-01T00:00:00.000Z');
  expect(changes(world)).toEqual(['granted', 'withdrawn *']);
});
