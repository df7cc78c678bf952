/** Counted things in sentences, and JSON in text. */
import { z } from 'zod';

/** `1 layer`, `0 layers`, `2 classes`; irregular words bring their plural. */
export function plural(count: number, singular: string, several = pluralOf(singular)): string {
  return `${count} ${count === 1 ? singular : several}`;
}

function pluralOf(singular: string): string {
  return /(s|x|ch|sh)$/.test(singular) ? `${singular}es` : `${singular}s`;
}

/** Text that must be JSON, for a schema to go on with: `jsonText.pipe(schema)`. */
export const jsonText = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: 'custom', message: 'not JSON' });
    return z.NEVER;
  }
});
