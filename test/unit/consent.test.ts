import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  consentStatus,
  everyPurpose,
  lastWithdrawal,
  recordConsent,
  withdrawConsent,
} from '../../core/consent/consent.ts';
import { setTimeZone } from '../../core/consent/site-zone.ts';
import type { ConsentEventRecord } from '../../core/store/records.ts';
import { openTestStore } from '../fixtures/store.ts';

const training = 'federated-training';
const instant = (day: number) => new Date(Date.UTC(2026, 0, 1) + day * 86_400_000).toISOString();

/** Events on days 0…60, as the store would number them. */
const eventsOf = (purposes: string[]): fc.Arbitrary<ConsentEventRecord[]> =>
  fc
    .array(
      fc.record({
        isGrant: fc.boolean(),
        purpose: fc.constantFrom(...purposes),
        all: fc.boolean(),
        from: fc.integer({ min: 0, max: 60 }),
        days: fc.option(fc.integer({ min: 1, max: 30 })),
      }),
      { maxLength: 8 },
    )
    .map((drafts) => drafts.map((draft, index) => toEvent(draft, index + 1)));

interface Draft {
  isGrant: boolean;
  purpose: string;
  all: boolean;
  from: number;
  days: number | null;
}

function toEvent({ isGrant, purpose, all, from, days }: Draft, id: number): ConsentEventRecord {
  const unsaid = { givenBy: null, verifiedOn: null, reference: null, afterWithdrawal: null };
  const common = {
    ...{ id, subjectId: 1, recordedAt: instant(0), recordedBy: 'desk', validFrom: instant(from) },
    ...unsaid,
  };
  return isGrant
    ? {
        ...common,
        kind: 'grant',
        purpose,
        documentVersion: '1',
        expiresAt: days === null ? null : instant(from + days),
      }
    : {
        ...common,
        kind: 'withdraw',
        purpose: all ? everyPurpose : purpose,
        documentVersion: null,
        expiresAt: null,
      };
}

const grant = (id: number, from: number, days: number | null) =>
  toEvent({ isGrant: true, purpose: training, all: false, from, days }, id);
const history = eventsOf([training, 'teaching']);
const day = fc.integer({ min: -5, max: 100 });

describe('the status of a consent', () => {
  test('of one grant goes from not yet valid over active to expired, each at its instant', () => {
    fc.assert(
      fc.property(day, fc.integer({ min: 0, max: 60 }), fc.integer({ min: 1, max: 30 }), (at, from, days) => {
        const expected = at < from ? 'not-yet-valid' : at < from + days ? 'active' : 'expired';

        expect(consentStatus([grant(1, from, days)], training, instant(at))).toBe(expected);
      }),
    );
  });

  test('does not depend on the order in which events are given', () => {
    const shuffled = history.chain((events) =>
      fc.tuple(fc.constant(events), fc.shuffledSubarray(events, { minLength: events.length })),
    );
    fc.assert(
      fc.property(shuffled, day, ([events, mixed], at) => {
        expect(consentStatus(mixed, training, instant(at))).toBe(
          consentStatus(events, training, instant(at)),
        );
      }),
    );
  });

  test('is never active after a withdrawal, whatever came before and at whatever instant', () => {
    fc.assert(
      fc.property(history, fc.boolean(), day, day, (events, all, withdrawnOn, at) => {
        const withdrawal = toEvent(
          { isGrant: false, purpose: training, all, from: withdrawnOn, days: null },
          events.length + 1,
        );

        expect(consentStatus([...events, withdrawal], training, instant(at))).toBe('withdrawn');
      }),
    );
  });

  test('is active again after a new grant of no earlier day, whatever came before', () => {
    fc.assert(
      // Events of the history are of day 60 at the latest.
      fc.property(history, fc.integer({ min: 60, max: 90 }), fc.nat(29), (events, from, later) => {
        const afterWithdrawal = lastWithdrawal(events, training)?.id ?? null;
        const again = [...events, { ...grant(events.length + 1, from, 30), afterWithdrawal }];

        expect(consentStatus(again, training, instant(from + later))).toBe('active');
      }),
    );
  });

  test('is active only by a grant to this purpose that covers the instant and was not withdrawn since', () => {
    fc.assert(
      fc.property(history, day, (events, at) => {
        fc.pre(consentStatus(events, training, instant(at)) === 'active');
        const ends = events.filter(
          (event) => event.kind === 'withdraw' && [training, everyPurpose].includes(event.purpose),
        );
        const lastEnd = Math.max(0, ...ends.map((event) => event.id));

        const covering = events.filter(
          (event) =>
            event.kind === 'grant' &&
            event.purpose === training &&
            event.id > lastEnd &&
            event.validFrom <= instant(at) &&
            (event.expiresAt === null || event.expiresAt > instant(at)),
        );
        expect(covering.length).toBeGreaterThan(0);
      }),
    );
  });

  test('does not change by what is agreed for another purpose', () => {
    fc.assert(
      fc.property(history, day, (events, at) => {
        const own = events.filter((event) => event.purpose !== 'teaching');

        expect(consentStatus(events, training, instant(at))).toBe(consentStatus(own, training, instant(at)));
      }),
    );
  });

  test('a shorter term that was agreed later holds; one that begins later does not end the present one', () => {
    expect(consentStatus([grant(1, 0, null), grant(2, 0, 10)], training, instant(20))).toBe('expired');
    expect(consentStatus([grant(1, 0, 30), grant(2, 25, 30)], training, instant(20))).toBe('active');
    expect(consentStatus([], training, instant(0))).toBe('none');
  });
});

describe('recording a consent', () => {
  const form = {
    pseudonym: 'P1',
    purpose: training,
    documentVersion: '2.1',
    validFrom: '2026-11-01',
    recordedBy: 'desk',
  };

  test('makes the subject and leaves a trace in the audit trail', () => {
    using opened = openTestStore();
    const { store } = opened;

    const event = recordConsent(store, { ...form, expiresAt: '2027-10-31' });

    expect(consentStatus([event], training, store.now())).toBe('active');
    expect(store.audit.page()).toMatchObject([
      {
        actor: 'desk',
        action: 'consent.granted',
        details: { subject: store.subjects.refOf('P1'), documentVersion: '2.1' },
      },
    ]);
  });

  test('reads dates as whole days of the time zone of the site, whatever that of the shell, the last one included', () => {
    using opened = openTestStore();
    setTimeZone(opened.store, 'Pacific/Auckland', 'test');

    const event = recordConsent(opened.store, { ...form, expiresAt: '2026-11-30' });

    expect(event.validFrom).toBe('2026-10-31T11:00:00.000Z');
    expect(event.expiresAt).toBe('2026-11-30T11:00:00.000Z');
    expect(consentStatus([event], training, '2026-11-30T10:59:59.999Z')).toBe('active');
  });

  test('reads instants with their offset, and takes the year 9999 for ever', () => {
    using opened = openTestStore();

    const event = recordConsent(opened.store, {
      ...form,
      validFrom: '2026-11-01T02:00:00+02:00',
      expiresAt: '9999-12-31',
    });

    expect(event.validFrom).toBe('2026-11-01T00:00:00.000Z');
    expect(consentStatus([event], training, '2126-01-01T00:00:00.000Z')).toBe('active');
  });

  test.each([
    ['an empty pseudonym', { pseudonym: '  ' }],
    ['no document', { documentVersion: '' }],
    ['a purpose for everything', { purpose: everyPurpose }],
    ['a date of another country', { validFrom: '01.11.2026' }],
    ['a day that does not exist', { validFrom: '2026-02-30' }],
    ['an end before the beginning', { expiresAt: '2026-10-31' }],
  ])('refuses %s, and keeps nothing', (_, change) => {
    using opened = openTestStore();

    expect(() => recordConsent(opened.store, { ...form, ...change })).toThrow(
      expect.objectContaining({ code: 'CONSENT_INVALID' }),
    );

    expect(opened.store.subjects.count()).toBe(0);
    expect(opened.store.audit.page()).toEqual([]);
  });
});

describe('a grant after a withdrawal', () => {
  const recorded = (validFrom: string) => {
    using opened = openTestStore('2026-11-22T12:00:00.000Z');
    const { store, clock } = opened;
    const common = { pseudonym: 'P1', purpose: training, documentVersion: 'v1', recordedBy: 'desk' };
    recordConsent(store, { ...common, validFrom: '2026-01-01' });
    withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'desk' });
    clock.now = new Date('2026-11-22T15:00:00.000Z');
    recordConsent(store, { ...common, documentVersion: 'v2', validFrom, afterWithdrawal: true });
    return consentStatus(store.consentEvents.all(), training, store.now());
  };

  test('counts when it was given afterwards, or on that day', () => {
    expect([recorded('2026-11-22T13:00:00Z'), recorded('2026-11-22')]).toEqual(['active', 'active']);
  });

  test.each(['2026-01-01', '2026-11-21', '2026-11-22T11:59:59Z'])(
    'does not count when it is of %s',
    (date) => {
      expect(() => recorded(date)).toThrow('"P1" has withdrawn on 2026-11-22');
    },
  );

  test('does not count unless it names the withdrawal, whatever its date', () => {
    const withdrawal = toEvent({ isGrant: false, purpose: training, all: true, from: 20, days: null }, 2);
    const status = (afterWithdrawal: number | null) =>
      consentStatus([withdrawal, { ...grant(3, 25, null), afterWithdrawal }], training, instant(30));

    expect([status(null), status(1), status(2)]).toEqual(['withdrawn', 'withdrawn', 'active']);
  });

  test('is an act of its own: what looks like an ordinary one is refused, with who withdrew and when', () => {
    using opened = openTestStore('2026-11-22T12:00:00.000Z');
    const { store, clock } = opened;
    setTimeZone(store, 'Asia/Tokyo', 'test');
    const form = { pseudonym: 'P1', purpose: training, documentVersion: 'v1', recordedBy: 'desk' };
    recordConsent(store, { ...form, validFrom: '2026-01-01' });
    clock.now = new Date('2026-11-22T16:00:00.000Z');
    const withdrawal = withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'nurse' });
    clock.now = new Date('2026-11-24T12:00:00.000Z');
    const again = (change: { validFrom?: string; afterWithdrawal?: boolean | number }) => () =>
      recordConsent(store, { ...form, documentVersion: 'v2', validFrom: '2026-11-24', ...change });

    // In Tokyo it was the 23rd already.
    const said = '"P1" has withdrawn on 2026-11-23 (recorded by nurse)';
    expect(again({})).toThrow(said);
    expect(again({ afterWithdrawal: false })).toThrow(said);
    // Another one than the person has seen.
    expect(again({ afterWithdrawal: withdrawal.id + 1 })).toThrow(said);
    expect(again({ afterWithdrawal: true, validFrom: '2026-11-22' })).toThrow('given before does not count');
    expect(store.consentEvents.all()).toHaveLength(2);

    again({ afterWithdrawal: withdrawal.id })();
    // Renewed and shortened as any other.
    again({ validFrom: '2026-11-24' })();
    expect(store.consentEvents.all().map((event) => event.afterWithdrawal)).toEqual([
      ...[null, null],
      ...[withdrawal.id, withdrawal.id],
    ]);
    expect(consentStatus(store.consentEvents.all(), training, store.now())).toBe('active');
  });
});

describe('withdrawing a consent', () => {
  const form = { pseudonym: 'P1', documentVersion: '1', validFrom: '2026-11-01', recordedBy: 'desk' };

  test('from everything ends every purpose, from one ends that one', () => {
    using opened = openTestStore();
    const { store } = opened;
    for (const purpose of [training, 'teaching']) recordConsent(store, { ...form, purpose });
    const status = (purpose: string) => {
      const subject = store.subjects.byPseudonym('P1')!;
      return consentStatus(store.consentEvents.ofSubject(subject.id), purpose, store.now());
    };

    withdrawConsent(store, { pseudonym: 'P1', purpose: 'teaching', recordedBy: 'desk' });
    expect([status(training), status('teaching')]).toEqual(['active', 'withdrawn']);
    withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'desk' });

    expect([status(training), status('teaching')]).toEqual(['withdrawn', 'withdrawn']);
    expect(store.audit.page()[0]).toMatchObject({
      action: 'consent.withdrawn',
      details: { subject: store.subjects.refOf('P1'), purpose: '*' },
    });
  });

  test('takes effect at once, also when the clock has gone back', () => {
    using opened = openTestStore();
    const { store, clock } = opened;
    const granted = recordConsent(store, { ...form, purpose: training });
    const withdrawn = withdrawConsent(store, { pseudonym: 'P1', recordedBy: 'desk' });

    clock.now = new Date('2026-11-22T11:00:00.000Z');

    expect(consentStatus([granted, withdrawn], training, store.now())).toBe('withdrawn');
  });

  test('may bear an earlier date, holds from now on all the same, and bears no later one', () => {
    using opened = openTestStore();
    const { store } = opened;
    setTimeZone(store, 'Europe/Berlin', 'test');
    recordConsent(store, { ...form, purpose: training, validFrom: '2026-11-21' });

    const event = withdrawConsent(store, { pseudonym: 'P1', date: '2026-11-20', recordedBy: 'desk' });

    expect(event.validFrom).toBe('2026-11-19T23:00:00.000Z');
    expect(consentStatus(store.consentEvents.all(), training, store.now())).toBe('withdrawn');
    for (const date of ['2026-11-23', '2026-11-22T12:00:01Z', 'yesterday'])
      expect(() => withdrawConsent(store, { pseudonym: 'P1', date, recordedBy: 'desk' }), date).toThrow(
        expect.objectContaining({ code: 'CONSENT_INVALID' }),
      );
  });

  test('of an unknown subject is refused', () => {
    using opened = openTestStore();

    expect(() => withdrawConsent(opened.store, { pseudonym: 'P9', recordedBy: 'desk' })).toThrow(
      expect.objectContaining({ code: 'SUBJECT_UNKNOWN' }),
    );
  });
});
