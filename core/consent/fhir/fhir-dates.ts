/**
 * FHIR's date and dateTime as instants. A year or a month alone leaves open when; Anneal then takes what is certain: what
 * permits begins with the last day that may be meant and ends after the first; what denies is taken as wide as it may be.
 * A date is a day of the site. The end of a period is inside it, as FHIR says: a day up to its end, a time up to that
 * millisecond.
 */
import { z } from 'zod';
import { endOfPeriod, startOfPeriod } from '../period.ts';

const month = /^(\d{4})-(0[1-9]|1[0-2])$/;
const year = /^\d{4}$/;
const date = z.iso.date();
const dateTime = z.iso.datetime({ offset: true });

/** A value of FHIR's date or dateTime, of the time in which people could have consented. */
export const fhirDateSchema = z
  .string()
  .max(40)
  .refine((text) => text >= '1900', 'expected a date after 1900')
  .refine(
    (text) =>
      year.test(text) || month.test(text) || date.safeParse(text).success || dateTime.safeParse(text).success,
    'expected a date such as 2026, 2026-11, 2026-11-22 or 2026-11-22T09:30:00+01:00',
  );

/** Where a moment lies that the text names: not before `earliest`, before `afterLatest`; ms since 1970. */
export interface Moment {
  earliest: number;
  /** The latest instant at which it may have begun: first instant of the last day that may be meant. */
  latestStart: number;
  /** The earliest instant after it, if the first day was meant. */
  earliestEnd: number;
  /** First instant that is certainly after it. */
  afterLatest: number;
}

/** @param zone IANA name of the site's time zone */
export function momentOf(text: string, zone: string): Moment {
  if (dateTime.safeParse(text).success) {
    const instant = Date.parse(text);
    return { earliest: instant, latestStart: instant, earliestEnd: instant + 1, afterLatest: instant + 1 };
  }
  const [first, last] = daysOf(text);
  return {
    earliest: startOf(first, zone),
    latestStart: startOf(last, zone),
    earliestEnd: endOf(first, zone),
    afterLatest: endOf(last, zone),
  };
}

/** First and last day that a date of any precision may mean. */
function daysOf(text: string): [string, string] {
  if (year.test(text)) return [`${text}-01-01`, `${text}-12-31`];
  const parts = month.exec(text);
  if (parts === null) return [text, text];
  const days = new Date(Date.UTC(Number(parts[1]), Number(parts[2]), 0)).getUTCDate();
  return [`${text}-01`, `${text}-${days}`];
}

const startOf = (day: string, zone: string) => Date.parse(startOfPeriod(zone).parse(day));
const endOf = (day: string, zone: string) => Date.parse(endOfPeriod(zone).parse(day));
