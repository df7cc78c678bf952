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

function instant(text: string, context: z.RefinementCtx, daysLater: number): string {
  const trimmed = text.trim();
  if (dateTimeSchema.safeParse(trimmed).success) return new Date(trimmed).toISOString();
  if (dateSchema.safeParse(trimmed).success) {
    const [year, month, day] = trimmed.split('-').map(Number) as [number, number, number];
    return new Date(year, month - 1, day + daysLater).toISOString();
  }
  context.addIssue({ code: 'custom', message: 'needs a date like 2026-11-22' });
  return z.NEVER;
}
