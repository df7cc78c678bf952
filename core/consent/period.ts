/**
 * Begin and end of a consent, from what a person or a CSV gives to the instants that the store holds, and back. A date
 * means a day on the calendar of the site's time zone, never of the shell that Anneal was started in.
 */
import { Temporal } from 'temporal-polyfill';
import { z } from 'zod';

const dateSchema = z.iso.date();
const dateTimeSchema = z.iso.datetime({ offset: true });

/** Whether a text names a day, and not an instant. */
export const isDay = (text: string): boolean => dateSchema.safeParse(text.trim()).success;

/** An IANA name such as `Europe/Berlin`; no offset such as `+02:00`, which knows no summer time. */
export const timeZoneSchema = z
  .string()
  .trim()
  .max(64)
  .regex(/^[A-Za-z][A-Za-z0-9_+\-/]*$/, 'expected a time zone such as Europe/Berlin')
  .refine(isTimeZone, 'expected a time zone such as Europe/Berlin');

/** Zones that were found to be some: asked for each consent, and slow to look up. */
const knownZones = new Set<string>();

function isTimeZone(name: string): boolean {
  if (knownZones.has(name)) return true;
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    knownZones.add(name);
    return true;
  } catch {
    return false;
  }
}

/** The zone that this machine is set to. */
export const machineTimeZone = (): string => new Intl.DateTimeFormat().resolvedOptions().timeZone;

/** What is made for a zone, made once: schemas take longer to make than to use, and a site has one zone. */
export function ofZone<T>(make: (zone: string) => T): (zone: string) => T {
  const made = new Map<string, T>();
  return (zone) => {
    const known = made.get(zone) ?? make(zone);
    made.set(zone, known);
    return known;
  };
}

/** To the first instant of a period, as ISO 8601 UTC text: of a date its first moment, which at a change of the clock may not be 00:00. */
export const startOfPeriod = ofZone((zone) => z.string().transform(toInstant(zone, 0)));

/** To the first instant after a period. A date is included in it, as in FHIR's Period.end. */
export const endOfPeriod = ofZone((zone) => z.string().transform(toInstant(zone, 1)));

/** Later ones would not sort as text: years of five digits are written with a sign. People write 9999 for "never". */
export const endOfTime = '9999-12-31T23:59:59.999Z';
/** Nobody alive has consented before; the first years of the calendar do not sort as text either. */
const firstYear = 1900;

function toInstant(zone: string, daysLater: number) {
  return (text: string, context: z.RefinementCtx): string => {
    const trimmed = text.trim();
    const time = dateTimeSchema.safeParse(trimmed).success
      ? Date.parse(trimmed)
      : isDay(trimmed)
        ? startOfDay(Temporal.PlainDate.from(trimmed).add({ days: daysLater }), zone)
        : Number.NaN;
    if (new Date(time).getUTCFullYear() >= firstYear) return storable(new Date(time));
    context.addIssue({ code: 'custom', message: 'expected a date such as 2026-11-22' });
    return z.NEVER;
  };
}

/** The first instant of a day, in ms since 1970. A day that a zone left out begins where the next one does. */
const startOfDay = (day: Temporal.PlainDate, zone: string): number =>
  day.toZonedDateTime(zone).epochMilliseconds;

function storable(time: Date): string {
  return time.getUTCFullYear() > 9999 ? endOfTime : time.toISOString();
}

/** The local day of an instant, as ISO date. */
export const dayOf = (instant: string, zone: string): string =>
  localDay(Date.parse(instant), zone).toString();

const localDay = (ms: number, zone: string): Temporal.PlainDate =>
  Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(zone).toPlainDate();

/** The day with which a period begins; null when it begins within a day. @param instant ISO 8601 UTC */
export function firstDayOf(instant: string, zone: string): string | null {
  const ms = Date.parse(instant);
  const day = localDay(ms, zone);
  return startOfDay(day, zone) === ms ? day.toString() : null;
}

/** The last whole day of a period; null when it ends within a day, or never. @param end ISO 8601 UTC, the first instant after it */
export function lastDayOf(end: string | null, zone: string): string | null {
  if (end === null || end === endOfTime || firstDayOf(end, zone) === null) return null;
  return localDay(Date.parse(end) - 1, zone).toString();
}

/** Minutes since midnight that a clock on the wall shows. */
export function minutesOfDay(now: Date, zone: string): number {
  const { hour, minute } = Temporal.Instant.fromEpochMilliseconds(now.getTime()).toZonedDateTimeISO(zone);
  return hour * 60 + minute;
}

/** How long until a clock on the wall shows a time (`07:00`) next, in ms; where it leaves that time out, the one after it. */
export function msUntilTimeOfDay(time: string, now: Date, zone: string): number {
  const today = localDay(now.getTime(), zone);
  const [plainTime, timeZone] = [Temporal.PlainTime.from(time), zone];
  const at = (days: number) => today.add({ days }).toZonedDateTime({ timeZone, plainTime }).epochMilliseconds;
  const inMs = at(0) - now.getTime();
  return inMs > 0 ? inMs : at(1) - now.getTime();
}
