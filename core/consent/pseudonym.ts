/** The pseudonym of a subject: one way to write it, wherever it enters. */
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { hiddenCharacterIn, quote } from '../shared/visible-text.ts';

/** In characters (code points). */
const maxLength = 128;

const months =
  'jan|feb|febr|mrz|mär|mar|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez|janv|févr|mars|avr|juin|juil|août|déc|ene|abr|ago|dic';

/** What spreadsheets make of numbers and names; in the order in which they are looked for. */
const damages: readonly (readonly [RegExp, string])[] = [
  [/^\d+(?:[.,]\d+)?E[+-]\d+$|^\d+[.,]\d+E\d+$/i, 'is a number that a spreadsheet has shortened'],
  [/^\d+[.,]0+$/, 'is a number to which a spreadsheet has added decimals'],
  [new RegExp(`^(?:${months})\\.?[-. /]?\\d{1,4}$`, 'iu'), 'is a date that a spreadsheet has made of it'],
  [
    new RegExp(`^\\d{1,2}[-. /]{1,2}(?:${months})\\.?(?:[-. /]\\d{2,4})?$`, 'iu'),
    'is a date that a spreadsheet has made of it',
  ],
  [/^#+$/, 'is what a spreadsheet shows where a column is too narrow'],
  [/^#(?:[\p{Lu}/0-9]+[!?]|N\/A|NV)$/u, 'is the error message of a spreadsheet'],
];

const damageAdvice = 'Format the column as text in the spreadsheet, enter the pseudonym again and save it.';

/** What is wrong with a pseudonym, as the rest of a sentence; null when nothing is. */
export interface PseudonymProblem {
  message: string;
  action?: string;
}

/** One subject, one spelling: without spaces around it (also no-break ones), and in Unicode's composed form (NFC). */
export const normalisePseudonym = (text: string): string =>
  text.replace(/^\p{Zs}+|\p{Zs}+$/gu, '').normalize('NFC');

/** @param text normalised */
export function pseudonymProblem(text: string): PseudonymProblem | null {
  if (text === '') return { message: 'is empty' };
  if ([...text].length > maxLength) return { message: `is longer than ${maxLength} characters` };
  const hidden = hiddenCharacterIn(text);
  if (hidden !== null) return { message: hidden, action: 'Delete the pseudonym and type it again.' };
  const damage = damages.find(([pattern]) => pattern.test(text));
  return damage ? { message: damage[1], action: damageAdvice } : null;
}

/** For every boundary at which a new pseudonym can enter. Gives it normalised. */
export const pseudonymSchema = z
  .string()
  .max(1000)
  .transform(normalisePseudonym)
  .superRefine((text, context) => {
    const problem = pseudonymProblem(text);
    if (problem !== null) context.addIssue({ code: 'custom', message: problem.message });
  });

/**
 * @returns normalised
 * @throws AppError CONSENT_INVALID
 */
export function parsePseudonym(text: string): string {
  const pseudonym = normalisePseudonym(text);
  const problem = pseudonymProblem(pseudonym);
  if (problem === null) return pseudonym;
  throw new AppError(
    'CONSENT_INVALID',
    `The pseudonym ${quote(pseudonym)} ${problem.message}.`,
    problem.action === undefined ? {} : { action: problem.action },
  );
}
