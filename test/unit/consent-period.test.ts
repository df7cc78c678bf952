/** Days of a consent in every time zone, held against a search with Intl, which knows nothing of Temporal. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  endOfPeriod,
  firstDayOf,
  lastDayOf,
  startOfPeriod,
  timeZoneSchema,
} from '../../core/consent/period.ts';
import { firstInstantAfter } from '../fixtures/local-days.ts';

const hourMs = 3_600_000;
const zones = [...Intl.supportedValuesOf('timeZone'), 'UTC'];
const firstDay = Date.UTC(2020, 0, 1);
const lastDay = Date.UTC(2040, 11, 31);
const anyDay = fc
  .integer({ min: 0, max: (lastDay - firstDay) / (24 * hourMs) })
  .map((days) => new Date(firstDay + days * 24 * hourMs).toISOString().slice(0, 10));
/** Days around those on which the clocks of a zone change in some year. */
function changingDays(timeZone: string, year: number): string[] {
  const format = new Intl.DateTimeFormat('en', { timeZone, timeZoneName: 'longOffset' });
  const offsetAt = (day: number) => format.format(Date.UTC(year, 0, day)).replace(/^.*,/, '');
  const days: string[] = [];
  // Ramadan suspends summer time for four weeks in Morocco.
  for (let day = 1; day < 366; day += 7) {
    if (offsetAt(day) === offsetAt(day + 7)) continue;
    for (let near = day - 1; near <= day + 7; near++)
      days.push(new Date(Date.UTC(year, 0, near)).toISOString().slice(0, 10));
  }
  return days;
}

describe('the last day of a consent', () => {
  test('ends with the first instant of the next local day, in every zone, on any day from 2020 to 2040', () => {
    fc.assert(
      fc.property(fc.constantFrom(...zones), anyDay, (zone, day) => {
        const end = endOfPeriod(zone).parse(day);

        expect(new Date(end).getTime()).toBe(firstInstantAfter(day, zone));
        expect(lastDayOf(end, zone)).toBe(day);
        const next = new Date(Date.parse(`${day}T00:00Z`) + 24 * hourMs).toISOString().slice(0, 10);
        expect(startOfPeriod(zone).parse(next)).toBe(end);
        expect(firstDayOf(end, zone)).toBe(next);
      }),
      { numRuns: 1500 },
    );
  }, 120_000);

  test('and on every day near a change of the clocks, in each zone in one of these years', () => {
    const cases = zones.flatMap((zone, index) =>
      changingDays(zone, 2020 + (index % 21)).map((day) => ({ zone, day })),
    );
    expect(new Set(cases.map(({ zone }) => zone)).size).toBeGreaterThan(100);
    for (const { zone, day } of cases) {
      const end = Date.parse(endOfPeriod(zone).parse(day));
      expect(`${zone} ${day} ${end}`).toBe(`${zone} ${day} ${firstInstantAfter(day, zone)}`);
    }
  }, 120_000);

  test.each([
    // The clock goes from 00:00 to 01:00: the day has 23 hours and begins at 01:00.
    ['Africa/Cairo', '2026-04-23', '2026-04-23T22:00:00.000Z'],
    ['Africa/Cairo', '2026-04-24', '2026-04-24T21:00:00.000Z'],
    ['Asia/Beirut', '2026-03-28', '2026-03-28T22:00:00.000Z'],
    ['Asia/Beirut', '2026-03-29', '2026-03-29T21:00:00.000Z'],
    ['America/Santiago', '2026-09-05', '2026-09-06T04:00:00.000Z'],
    ['America/Santiago', '2026-09-06', '2026-09-07T03:00:00.000Z'],
    // 25 hours.
    ['Europe/Berlin', '2026-10-25', '2026-10-25T23:00:00.000Z'],
    // 30 December 2011 was left out.
    ['Pacific/Apia', '2011-12-29', '2011-12-30T10:00:00.000Z'],
    ['Pacific/Apia', '2011-12-31', '2011-12-31T10:00:00.000Z'],
  ])('in %s, %s ends at %s', (zone, day, end) => {
    expect(endOfPeriod(zone).parse(day)).toBe(end);
    expect(lastDayOf(end, zone)).toBe(day);
  });
});

describe('instants', () => {
  test('with an offset are what they are, in every zone, and no whole day', () => {
    for (const zone of ['Asia/Tokyo', 'America/New_York']) {
      expect(endOfPeriod(zone).parse('2026-12-31T23:59:00+01:00')).toBe('2026-12-31T22:59:00.000Z');
      expect(startOfPeriod(zone).parse(' 2026-12-31T23:59:00Z ')).toBe('2026-12-31T23:59:00.000Z');
      expect(lastDayOf('2026-12-31T22:59:00.000Z', zone)).toBeNull();
    }
  });

  test('without an offset, and dates that do not exist, are refused; the year 9999 is for ever', () => {
    for (const text of ['2026-12-31T23:59', '31.12.2026', '2026-02-30', '0001-01-01', '', '2026-13-01'])
      expect(endOfPeriod('Europe/Berlin').safeParse(text).success, text).toBe(false);
    const forEver = endOfPeriod('America/New_York').parse('9999-12-31');
    expect(forEver).toBe('9999-12-31T23:59:59.999Z');
    expect(lastDayOf(forEver, 'America/New_York')).toBeNull();
  });
});

test('a time zone is an IANA name', () => {
  for (const zone of zones) expect(timeZoneSchema.safeParse(zone).success, zone).toBe(true);
  for (const zone of ['+02:00', '', 'Berlin', 'Europe/Atlantis', '../etc', 'x'.repeat(200)])
    expect(timeZoneSchema.safeParse(zone).success, zone).toBe(false);
});
