/** A clock that runs back makes nothing active that was over, and stops training until it is right or confirmed. */
import { describe, expect, test } from 'vitest';
import { freezeCohort } from '../../core/consent/cohort.ts';
import { consentStatus, recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { assertConsentsHold, clockFault, confirmClock } from '../../core/consent/site-clock.ts';
import { setTimeZone, siteTimeZone } from '../../core/consent/site-zone.ts';
import { openStore } from '../../core/store/store.ts';
import { addImage, openTestStore, type TestStore } from '../fixtures/store.ts';

const purpose = 'federated-training';
const form = { purpose, documentVersion: 'v1', recordedBy: 'desk', validFrom: '2026-01-01' };
const today = '2026-11-22T12:00:00.000Z';

/** P1 has consented until 20 November, which is over; P2 for ever. */
function opened(): TestStore {
  const at = openTestStore(today);
  setTimeZone(at.store, 'Europe/Berlin', 'test');
  recordConsent(at.store, { ...form, pseudonym: 'P1', expiresAt: '2026-11-20' });
  recordConsent(at.store, { ...form, pseudonym: 'P2' });
  for (const pseudonym of ['P1', 'P2']) addImage(at.store, pseudonym, `of ${pseudonym}`);
  return at;
}
const trainsOn = ({ store }: TestStore) =>
  freezeCohort(store, { runId: 'r', round: 0, purpose }).images.map(({ pseudonym }) => pseudonym);
const move = ({ clock }: TestStore, to: string) => {
  clock.now = new Date(to);
};
const statusOf = ({ store }: TestStore, pseudonym: string) =>
  consentStatus(
    store.consentEvents.ofSubject(store.subjects.byPseudonym(pseudonym)!.id),
    purpose,
    store.clock.latest(),
  );

describe('a clock that was set back five days', () => {
  test('makes nothing active again, is named in one sentence, and goes on when it is right', () => {
    using world = opened();
    const { store } = world;

    move(world, '2026-11-17T12:00:00.000Z');

    expect(trainsOn(world)).toEqual(['P2']);
    expect(() => assertConsentsHold(store)).toThrow(
      'The clock of this machine shows 2026-11-17 12:00 UTC, but it has shown 2026-11-22 12:00 UTC before.',
    );
    expect(clockFault(store)?.code).toBe('CLOCK_RAN_BACK');
    // What is recorded meanwhile does not make the earlier time the known one.
    store.audit.append({ actor: 'desk', action: 'test', details: {} });
    expect(trainsOn(world)).toEqual(['P2']);

    move(world, '2026-11-22T12:01:00.000Z');
    expect(clockFault(store)).toBeNull();
  });

  test('is remembered over a restart, also when nothing was recorded since, for a minute less', () => {
    using world = opened();
    move(world, '2026-12-05T08:00:00.000Z');
    world.store.clock.remember();
    world.store.close();

    const again = openStore(world.file, { now: () => new Date('2026-12-01T08:00:00.000Z') });

    expect(again.clock.fault()).toEqual({
      now: '2026-12-01T08:00:00.000Z',
      latest: '2026-12-05T08:00:00.000Z',
    });
    again.close();
  });

  test('by less than two minutes is what time servers do', () => {
    using world = opened();
    move(world, '2026-11-22T11:58:30.000Z');
    expect(clockFault(world.store)).toBeNull();
    // Judged at the latest time all the same.
    expect(world.store.clock.latest()).toBe(today);
    move(world, '2026-11-22T11:57:59.000Z');
    expect(clockFault(world.store)).not.toBeNull();
  });

  test('does not date a withdrawal back', () => {
    using world = opened();
    move(world, '2026-11-17T12:00:00.000Z');

    const event = withdrawConsent(world.store, { pseudonym: 'P2', recordedBy: 'desk' });

    expect(event.validFrom).toBe(today);
    expect(statusOf(world, 'P2')).toBe('withdrawn');
  });
});

describe('a clock that was years ahead and is corrected', () => {
  test('stands in the way until an administrator confirms it; nothing comes back that was withdrawn', () => {
    using world = opened();
    const { store } = world;
    move(world, '2036-11-22T12:00:00.000Z');
    recordConsent(store, { ...form, pseudonym: 'P3', expiresAt: '2027-12-31' });
    withdrawConsent(store, { pseudonym: 'P2', recordedBy: 'desk' });
    addImage(store, 'P3', 'of P3');
    move(world, '2026-11-23T12:00:00.000Z');
    expect(trainsOn(world)).toEqual([]);

    expect(confirmClock(store, 'admin')).toEqual({ activeAgain: 1 });

    expect(store.audit.page()[0]).toMatchObject({
      actor: 'admin',
      action: 'clock-confirmed',
      details: {
        clock: '2026-11-23T12:00:00.000Z',
        latestBefore: '2036-11-22T12:00:00.000Z',
        activeAgain: 1,
      },
    });
    expect(clockFault(store)).toBeNull();
    expect(trainsOn(world)).toEqual(['P3']);
    expect(['P1', 'P2', 'P3'].map((one) => statusOf(world, one))).toEqual(['expired', 'withdrawn', 'active']);
    expect(confirmClock(store, 'admin')).toBeNull();
    // The withdrawal is dated 2036; a new consent of today counts nevertheless.
    recordConsent(store, { ...form, pseudonym: 'P2', validFrom: '2026-11-23', afterWithdrawal: true });
    expect(statusOf(world, 'P2')).toBe('active');
    expect(store.audit.verify().intact).toBe(true);
  });
});

test('the time zone is written down once, and changed by an act that the trail names', () => {
  using world = opened();
  const { store } = world;
  const zone = process.env['TZ'];
  try {
    process.env['TZ'] = 'Asia/Tokyo';
    expect(siteTimeZone(store)).toBe('Europe/Berlin');
  } finally {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  }

  setTimeZone(store, 'America/New_York', 'admin');

  expect(store.audit.page()[0]).toMatchObject({
    action: 'time-zone-set',
    details: { timeZone: 'America/New_York', before: 'Europe/Berlin' },
  });
  expect(() => setTimeZone(store, '+02:00', 'admin')).toThrow(
    expect.objectContaining({ code: 'CONFIG_INVALID' }),
  );
  expect(siteTimeZone(store)).toBe('America/New_York');
});
