/** Words of a hospital's table for consent and split, in English, German, French and Spanish. */
import { z } from 'zod';
import type { Split } from '../../store/records.ts';

export const consentKinds = ['granted', 'withdrawn', 'none'] as const;
export type ConsentKind = (typeof consentKinds)[number];

/** What a person said that a word means; words without regard to letter case. */
export interface ValueMap {
  consent?: Record<string, ConsentKind> | undefined;
  split?: Record<string, Split> | undefined;
}
const word = z.string().min(1).max(100);
const wordsOf = <T extends z.ZodType>(meaning: T) =>
  z
    .record(word, meaning)
    .refine((words) => Object.keys(words).length <= 200, 'too many words')
    .optional();
export const valueMapSchema = z.strictObject({
  consent: wordsOf(z.enum(consentKinds)),
  split: wordsOf(z.enum(['train', 'test'])),
});

const list = (words: string) => words.split(/\s*[,\n]\s*/).filter((one) => one !== '');
/** Plain words: what they mean does not depend on the form that was filled in. */
const consentWords: Record<ConsentKind, string[]> = {
  granted: list(
    'granted, given, consented, agreed, yes, ja, oui, si, erteilt, zugestimmt, accorde, donne, otorgado, concedido, permit',
  ),
  withdrawn: list(
    'withdrawn, revoked, refused, denied, deny, widerrufen, zuruckgezogen, zurueckgezogen, abgelehnt, verweigert, retire, revoque, refuse, retirado, revocado, rechazado, denegado',
  ),
  none: list(
    'none, no, unknown, missing, keine, nein, unbekannt, fehlt, aucun, non, inconnu, ninguno, desconocido',
  ),
};
/** Codes: what they mean is a matter of the form, so a person confirms it. */
const consentCodes: Record<ConsentKind, string[]> = {
  granted: list('1, true, y, j, x, checked, wahr, vrai'),
  withdrawn: [],
  none: list('0, false, n, unchecked, falsch, faux'),
};
const splitWords: Record<Split, string[]> = {
  train: list('train, training, lernen, entrainement, entrenamiento'),
  test: list('test, testing, prufung, evaluation, prueba'),
};

export interface Understood<T> {
  meaning: T;
  /** A person has not said so yet, and has to. */
  needsConfirmation: boolean;
}

const plain = (text: string) => text.normalize('NFKD').replaceAll(/\p{M}/gu, '').trim().toLowerCase();

/** @returns null when nobody knows the word */
export function consentOf(text: string, map: ValueMap): Understood<ConsentKind> | null {
  return said(text, map.consent) ?? among(text, consentWords, false) ?? among(text, consentCodes, true);
}

export function splitOf(text: string, map: ValueMap): Understood<Split> | null {
  return said(text, map.split) ?? among(text, splitWords, false);
}

function said<T>(text: string, words: Record<string, T> | undefined): Understood<T> | null {
  const found = Object.entries(words ?? {}).find(([given]) => plain(given) === plain(text));
  return found ? { meaning: found[1], needsConfirmation: false } : null;
}

function among<T extends string>(
  text: string,
  words: Record<T, string[]>,
  needsConfirmation: boolean,
): Understood<T> | null {
  const found = (Object.keys(words) as T[]).find((meaning) => words[meaning].includes(plain(text)));
  return found === undefined ? null : { meaning: found, needsConfirmation };
}
