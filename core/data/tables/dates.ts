/** Dates as hospitals write them, to what a consent record takes: an ISO date, or a date-time with offset. */
import { Temporal } from 'temporal-polyfill';
import { z } from 'zod';

/**
 * ISO 8601 is always understood. Everything else only by a person's choice: 03/04/2026 is two days, and 46112 may be a
 * number that has nothing to do with days.
 */
export const dateFormats = ['iso', 'dd.mm.yyyy', 'dd/mm/yyyy', 'mm/dd/yyyy', 'excel'] as const;
export type DateFormat = (typeof dateFormats)[number];

const patterns: Record<Exclude<DateFormat, 'iso' | 'excel'>, RegExp> = {
  'dd.mm.yyyy': /^(?<day>\d{1,2})\.(?<month>\d{1,2})\.(?<year>\d{4})$/,
  'dd/mm/yyyy': /^(?<day>\d{1,2})\/(?<month>\d{1,2})\/(?<year>\d{4})$/,
  'mm/dd/yyyy': /^(?<month>\d{1,2})\/(?<day>\d{1,2})\/(?<year>\d{4})$/,
};
const isoDate = z.iso.date();
const withOffset = z.iso.datetime({ offset: true });
const withoutOffset = z.iso.datetime({ local: true });
const partial = /^(\d{4})(?:-(0[1-9]|1[0-2]))?$/;
/** Days since the last day of 1899, as spreadsheets count from March 1900 on; to the year 9999. */
const serial = /^[1-9]\d{1,6}$/;
const firstSerial = 61;
const lastSerial = 2_958_465;
const yearsKnown = { first: 1900, last: 9999 };

export interface ReadDateOptions {
  format: DateFormat;
  /** IANA name; times without offset are meant there. */
  timeZone: string;
  /**
   * Which edge of a period it is. Where a text leaves open when exactly, the period is the shorter one: of a month or a
   * year it begins with the last day and ends with the first; of a time that a clock shows twice likewise.
   */
  edge: 'begin' | 'end';
}

export type ReadDate =
  | { ok: true; value: string; note?: 'partial' | 'local time' }
  /** The rest of a sentence. */
  | { ok: false; message: string };

export function readDate(text: string, options: ReadDateOptions): ReadDate {
  const iso = readIso(text, options);
  if (iso !== null) return iso;
  const chosen = readChosen(text, options.format);
  if (chosen !== null) return chosen;
  return { ok: false, message: refusal(text, options.format) };
}

function readIso(text: string, { timeZone, edge }: ReadDateOptions): ReadDate | null {
  if (isoDate.safeParse(text).success) return inRange(text);
  if (withOffset.safeParse(text).success) return inRange(text);
  if (withoutOffset.safeParse(text).success) {
    const disambiguation = edge === 'begin' ? 'later' : 'earlier';
    const instant = Temporal.PlainDateTime.from(text)
      .toZonedDateTime(timeZone, { disambiguation })
      .toInstant();
    return { ...inRange(instant.toString()), note: 'local time' } as ReadDate;
  }
  const [, year, month] = partial.exec(text) ?? [];
  if (year === undefined) return null;
  const first = Temporal.PlainYearMonth.from(`${year}-${month ?? (edge === 'begin' ? '12' : '01')}`);
  const day = first.toPlainDate({ day: edge === 'begin' ? first.daysInMonth : 1 });
  const read = inRange(day.toString());
  return read.ok ? { ...read, note: 'partial' } : read;
}

function readChosen(text: string, format: DateFormat): ReadDate | null {
  if (format === 'iso') return null;
  if (format === 'excel') {
    const days = serial.test(text) ? Number(text) : 0;
    if (days < firstSerial || days > lastSerial) return null;
    return inRange(Temporal.PlainDate.from('1899-12-30').add({ days }).toString());
  }
  const { year, month, day } = patterns[format].exec(text)?.groups ?? {};
  if (year === undefined) return null;
  const date = `${year}-${month!.padStart(2, '0')}-${day!.padStart(2, '0')}`;
  return isoDate.safeParse(date).success ? inRange(date) : null;
}

function inRange(value: string): ReadDate {
  const year = Number(value.slice(0, 4));
  return value[0] !== '-' && value[0] !== '+' && year >= yearsKnown.first && year <= yearsKnown.last
    ? { ok: true, value }
    : { ok: false, message: `is not between the years ${yearsKnown.first} and ${yearsKnown.last}` };
}

/** Names the choice that would help, where one would. */
function refusal(text: string, format: DateFormat): string {
  const helpful = dateFormats.filter((other) => other !== format && readChosen(text, other)?.ok === true);
  const choice = (name: DateFormat) => `"--dates ${name}"`;
  if (helpful.includes('excel')) {
    return `is not an ISO date such as 2026-01-31; if it is a spreadsheet's day number, choose ${choice('excel')}`;
  }
  if (helpful.length > 0) {
    return `is not an ISO date such as 2026-01-31; say how dates are written: ${helpful.map(choice).join(' or ')}`;
  }
  const expected = format === 'iso' ? '' : `, and not ${format} either`;
  return `is not an ISO date such as 2026-01-31${expected}`;
}
