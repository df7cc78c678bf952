/** What a list does to subjects: rows of docs/consent.md, and lists that come again written otherwise. */
import { describe, expect, test } from 'vitest';
import { applyConsentRecord, type ConsentRecord } from '../../core/consent/apply-record.ts';
import { consentStatus, recordConsent, withdrawConsent } from '../../core/consent/consent.ts';
import { setTimeZone } from '../../core/consent/site-zone.ts';
import { openTestStore, type TestStore } from '../fixtures/store.ts';

const purpose = 'federated-training';
const row: ConsentRecord = {
  pseudonym: 'P1',
  kind: 'granted',
  purpose,
  documentVersion: 'v1',
  validFrom: '2026-01-01',
  expiresAt: '2026-12-31',
};

function opened(): TestStore {
  const world = openTestStore('2026-06-01T12:00:00.000Z');
  setTimeZone(world.store, 'Europe/Berlin', 'test');
  world.store.subjects.upsert({ pseudonym: 'P1' });
  return world;
}
const apply = ({ store }: TestStore, change: Partial<ConsentRecord> = {}) =>
  applyConsentRecord(store, { ...row, ...change }, { recordedBy: 'import' }).outcome;
const status = ({ store }: TestStore, of = purpose) =>
  consentStatus(store.consentEvents.all(), of, store.clock.latest());
const withdraw = ({ store }: TestStore) => withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'nurse' });

describe('the same list again', () => {
  const written: [string, Partial<ConsentRecord>][] = [
    ['as it was', {}],
    ['with V1 for v1', { documentVersion: ' V1 ' }],
    ['with another document', { documentVersion: 'v2' }],
    ['without its document', { documentVersion: null }],
    ['without its date', { validFrom: null }],
    ['without dates', { validFrom: null, expiresAt: null }],
    ['with another date', { validFrom: '2026-02-01' }],
    ['with the day of the withdrawal', { validFrom: '2026-06-01', documentVersion: 'v2' }],
    ['with a time on that day', { validFrom: '2026-06-01T23:00:00+02:00', documentVersion: 'v2' }],
    ['with a longer term', { expiresAt: '2030-12-31' }],
  ];

  test.each(written)('%s brings nothing back that was withdrawn, and says so', (_what, change) => {
    using world = opened();
    apply(world);
    withdraw(world);

    expect(apply(world, change)).toBe('still-withdrawn');

    expect(status(world)).toBe('withdrawn');
    expect(world.store.consentEvents.all()).toHaveLength(2);
  });

  test.each(['America/New_York', 'Pacific/Pago_Pago', 'Pacific/Kiritimati', 'UTC'])(
    'brings nothing back when the site moved to %s',
    (zone) => {
      for (const validFrom of ['2026-05-31', '2026-06-01', '2026-06-02', '2026-06-03']) {
        using world = opened();
        apply(world, { validFrom });
        world.clock.now = new Date('2026-06-01T14:00:00.000Z');
        withdraw(world);
        setTimeZone(world.store, zone, 'test');

        expect([validFrom, apply(world, { validFrom, documentVersion: 'v2' })]).toEqual([
          ...[validFrom, 'still-withdrawn'],
        ]);
      }
    },
  );

  test('brings no consent back that had not begun when it was withdrawn', () => {
    using world = opened();
    apply(world, { validFrom: '2026-07-01' });
    withdraw(world);

    expect(apply(world, { validFrom: '2026-07-01' })).toBe('still-withdrawn');
  });

  test.each([
    ['as it was', {}],
    ['with V1 for v1', { documentVersion: 'V1' }],
    ['without its date', { validFrom: null }],
    ['without its dates', { validFrom: null, expiresAt: null }],
    ['with an earlier date', { validFrom: '2025-12-31', documentVersion: 'v0' }],
  ])('%s makes nothing longer that was shortened since', (_what, change) => {
    using world = opened();
    apply(world);
    recordConsent(world.store, {
      ...{ pseudonym: 'P1', purpose, documentVersion: 'v1', recordedBy: 'desk' },
      ...{ validFrom: '2026-01-01', expiresAt: '2026-05-31' },
    });

    expect(apply(world, change)).toBe('known');
    expect(status(world)).toBe('expired');
  });
});

describe('a list', () => {
  test('with a document and a later date is a new consent after the withdrawal', () => {
    using world = opened();
    apply(world);
    withdraw(world);
    world.clock.now = new Date('2026-06-03T12:00:00.000Z');

    expect(apply(world, { validFrom: '2026-06-02', documentVersion: null })).toBe('still-withdrawn');
    expect(apply(world, { validFrom: '2026-06-02', documentVersion: 'v2' })).toBe('reconsented');
    expect(status(world)).toBe('active');
    // The old one is still there, and still older.
    expect(apply(world)).toBe('known');
    expect(apply(world, { validFrom: '2026-06-02', documentVersion: 'V2' })).toBe('known');
    expect(apply(world, { validFrom: '2026-06-02', documentVersion: 'v2', expiresAt: '2027-12-31' })).toBe(
      'recorded',
    );
  });

  test('without a date may shorten', () => {
    using world = opened();
    apply(world);

    expect(apply(world, { validFrom: null, expiresAt: '2026-05-31' })).toBe('recorded');
    expect(status(world)).toBe('expired');
  });

  test('without a date, over before the present consent began, tells of an earlier one', () => {
    using world = opened();
    apply(world);

    expect(apply(world, { validFrom: null, expiresAt: '2025-12-31' })).toBe('known');
    expect(status(world)).toBe('active');
  });

  test('that withdraws counts, whenever; the begin of the consent is not its date', () => {
    using world = opened();
    apply(world);

    expect(apply(world, { kind: 'withdrawn' })).toBe('withdrawn');
    expect(world.store.consentEvents.all().at(-1)).toMatchObject({
      kind: 'withdraw',
      validFrom: '2026-06-01T12:00:00.000Z',
    });
    expect(apply(world, { kind: 'withdrawn' })).toBe('known');
    expect(apply(world, { kind: 'withdrawn', purpose: '*' })).toBe('withdrawn');
  });

  test('that tells of an old withdrawal does not undo a newer consent; one without a date does', () => {
    using world = opened();
    apply(world);
    expect(apply(world, { kind: 'withdrawn', withdrawnOn: '2026-05-20' })).toBe('withdrawn');
    recordConsent(world.store, {
      ...{ pseudonym: 'P1', purpose, documentVersion: 'v2', recordedBy: 'desk' },
      ...{ validFrom: '2026-05-25', afterWithdrawal: true },
    });

    expect(apply(world, { kind: 'withdrawn', withdrawnOn: '2026-05-20' })).toBe('known');
    expect(status(world)).toBe('active');
    expect(apply(world, { kind: 'withdrawn' })).toBe('withdrawn');
    expect(status(world)).toBe('withdrawn');
  });

  test('keeps purposes apart', () => {
    using world = opened();
    apply(world);
    apply(world, { purpose: 'teaching' });

    expect(apply(world, { kind: 'withdrawn', purpose: 'teaching' })).toBe('withdrawn');
    expect([status(world), status(world, 'teaching')]).toEqual(['active', 'withdrawn']);
    expect(apply(world, { kind: 'none' })).toBe('nothing');
  });

  test('makes nobody', () => {
    using world = opened();

    expect(apply(world, { pseudonym: 'P9' })).toBe('unknown-subject');
    expect(apply(world, { pseudonym: 'P9', kind: 'withdrawn' })).toBe('unknown-subject');
    expect(world.store.subjects.count()).toBe(1);
  });
});

describe('what was shortened without a date of its own', () => {
  const written: Partial<ConsentRecord>[] = [
    {},
    { documentVersion: 'v2' },
    { documentVersion: null },
    { expiresAt: null },
    { expiresAt: '2032-01-01' },
  ];
  const longRow = { expiresAt: '2031-12-31' };

  test.each(['Europe/Berlin', 'America/New_York', 'Asia/Tokyo', 'Pacific/Kiritimati'])(
    'stays short when the old list comes again, however it is written, read in %s',
    (zone) => {
      for (const change of written) {
        using world = opened();
        apply(world, longRow);
        expect(apply(world, { validFrom: null, expiresAt: '2026-08-31' })).toBe('recorded');
        setTimeZone(world.store, zone, 'test');

        const outcome = apply(world, { ...longRow, ...change });

        expect([zone, change, outcome]).toEqual([zone, change, 'known']);
        expect(consentStatus(world.store.consentEvents.all(), purpose, '2026-10-01T00:00:00.000Z')).toBe(
          'expired',
        );
      }
    },
  );

  test('is renewed by a consent that was given later', () => {
    using world = opened();
    apply(world, longRow);
    apply(world, { validFrom: null, expiresAt: '2026-08-31' });
    world.clock.now = new Date('2026-09-10T12:00:00.000Z');

    expect(apply(world, { validFrom: '2026-09-09', expiresAt: null })).toBe('recorded');
    expect(status(world)).toBe('active');
  });
});

describe('a withdrawal of a list', () => {
  test('counts against a consent that was recorded before it and begins after it', () => {
    using world = opened();
    apply(world);
    withdraw(world);
    recordConsent(world.store, {
      ...{ pseudonym: 'P1', purpose, documentVersion: 'v2', validFrom: '2026-09-01' },
      ...{ recordedBy: 'nurse', afterWithdrawal: true },
    });
    const told = { kind: 'withdrawn', validFrom: null, expiresAt: null } as const;
    world.clock.now = new Date('2026-07-10T12:00:00.000Z');

    // The one that is known.
    expect(apply(world, { ...told, withdrawnOn: '2026-06-01' })).toBe('known');
    expect(apply(world, { ...told, withdrawnOn: '2026-07-09' })).toBe('withdrawn');

    world.clock.now = new Date('2026-09-02T12:00:00.000Z');
    expect(status(world)).toBe('withdrawn');
  });

  test.each([
    'Federated-Training',
    'federated training',
    'federated_training',
    'federated\u2011training',
    'federated-training\u200b',
  ])('from "%s" means the purpose that was consented to, by a list and by hand', (written) => {
    const told = { kind: 'withdrawn', validFrom: null, expiresAt: null } as const;
    using world = opened();
    apply(world);
    apply(world, { purpose: 'teaching' });
    expect(apply(world, { ...told, purpose: written })).toBe('withdrawn');
    expect(apply(world, { ...told, purpose: written })).toBe('known');

    using other = opened();
    apply(other);
    withdrawConsent(other.store, { pseudonym: 'P1', purpose: written, recordedBy: 'nurse' });

    expect([status(world), status(world, 'teaching'), status(other)]).toEqual([
      ...['withdrawn', 'active', 'withdrawn'],
    ]);
  });

  test('from a purpose that is written exactly so leaves others alone that look like it', () => {
    using world = opened();
    apply(world);
    apply(world, { purpose: 'Federated-Training' });

    withdrawConsent(world.store, { pseudonym: 'P1', purpose, recordedBy: 'nurse' });

    expect([status(world), status(world, 'Federated-Training')]).toEqual(['withdrawn', 'active']);
  });

  test('a consent to a purpose with a character that nobody sees is refused', () => {
    using world = opened();
    expect(() => apply(world, { purpose: 'teach\u200bing' })).toThrow(
      expect.objectContaining({ code: 'CONSENT_INVALID' }),
    );
  });
});
