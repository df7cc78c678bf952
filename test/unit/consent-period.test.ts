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

const hourMs = 3_600_000;
const formats = new Map<string, Intl.DateTimeFormat>();

/** The local date of an instant, by Intl. */
function localDate(ms: number, timeZone: string): string {
  let format = formats.get(timeZone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-CA', {
      ...{ timeZone, calendar: 'iso8601', year: 'numeric', month: '2-digit', day: '2-digit' },
    });
    formats.set(timeZone, format);
  }
  return format.format(ms);
}

/** The first instant whose local date is after `day`: hours first, then halved down to the millisecond. */
function firstInstantAfter(day: string, timeZone: string): number {
  let late = Date.parse(`${day}T00:00Z`) - 14 * hourMs;
  while (localDate(late, timeZone) <= day) late += hourMs / 4;
  let early = late - hourMs / 4;
  while (late - early > 1) {
    const middle = Math.floor((early + late) / 2);
    if (localDate(middle, timeZone) <= day) early = middle;
    else late = middle;
  }
  return late;
}

const zones = [...Intl.supportedValuesOf('timeZone'), 'UTC'];
const firstDay = Date.UTC(2020, 0, 1);
const lastDay = Date.UTC(2040, 11, 31);
const anyDay = fc
  .integer({ min: 0, max: (lastDay - firstDay) / (24 * hourMs) })
  .map((days) => new Date(firstDay + days * 24 * hourMs).toISOString().slice(0, 10));
/** Days on which the clocks of a zone change: those that matter. */
function changingDays(timeZone: string): string[] {
  const days: string[] = [];
  const offsetAt = (ms: number) =>
    new Intl.DateTimeFormat('en', { timeZone, timeZoneName: 'longOffset' })
      .formatToParts(ms)
      .find(({ type }) => type === 'timeZoneName')!.value;
  const format = offsetAt;
  let before = format(firstDay);
  for (let ms = firstDay; ms < lastDay; ms += 14 * 24 * hourMs) {
    const after = format(ms + 14 * 24 * hourMs);
    if (after === before) continue;
    before = after;
    for (let day = 0; day <= 14; day++)
      days.push(new Date(ms + day * 24 * hourMs).toISOString().slice(0, 10));
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
      { numRuns: 4000 },
    );
  }, 60_000);

  test('and near the days on which clocks change', () => {
    // Each zone with summer time once; zones of one rule are many.
    const cases = zones.flatMap((zone, index) => {
      const days = changingDays(zone);
      return days.length === 0
        ? []
        : [0, 1, 2].map((turn) => ({ zone, day: days[(index * 31 + turn * 97) % days.length]! }));
    });
    expect(cases.length).toBeGreaterThan(300);
    for (const { zone, day } of cases) {
      const end = endOfPeriod(zone).parse(day);
      expect(`${zone} ${day} ${Date.parse(end)}`).toBe(`${zone} ${day} ${firstInstantAfter(day, zone)}`);
    }
  }, 60_000);

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
