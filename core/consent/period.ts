/** Begin and end of a consent, from what a person or a CSV gives to the instants that the store holds. */
import { z } from 'zod';

const dateSchema = z.iso.date();
const dateTimeSchema = z.iso.datetime({ offset: true });

/** First instant of the period. A date means its first moment on this machine's calendar, the hospital's own. */
export function startOfPeriod(text: string, context: z.RefinementCtx): string {
  return instant(text, context, 0);
}

/** First instant after the period. A date is included in it, as in FHIR's Period.end. */
export function endOfPeriod(text: string, context: z.RefinementCtx): string {
  return instant(text, context, 1);
}

/** Later ones would not sort as text: years of five digits are written with a sign. People write 9999 for "never". */
const endOfTime = '9999-12-31T23:59:59.999Z';

function instant(text: string, context: z.RefinementCtx, daysLater: number): string {
  const trimmed = text.trim();
  if (dateTimeSchema.safeParse(trimmed).success) return storable(new Date(trimmed));
  if (dateSchema.safeParse(trimmed).success) {
    // Without an offset: midnight on this machine's calendar.
    const day = new Date(`${trimmed}T00:00`);
    day.setDate(day.getDate() + daysLater);
    return storable(day);
  }
  context.addIssue({ code: 'custom', message: 'expected a date such as 2026-11-22' });
  return z.NEVER;
}

function storable(time: Date): string {
  return time.getUTCFullYear() > 9999 ? endOfTime : time.toISOString();
}
