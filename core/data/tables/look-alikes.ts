/** Pseudonyms that may be one subject written in two ways. Nothing is merged here: they are asked about. */
import { rectifyConfusion } from 'unicode-confusables';

/** Two pseudonyms, in the order in which they were seen. */
export interface LookAlike {
  first: string;
  second: string;
  why: 'letter case' | 'leading zeros' | 'characters that look the same';
}

const stripZeros = (text: string) => text.replaceAll(/(?<![\d.,])0+(?=\d)/g, '');
const letters = (text: string) => text.normalize('NFKD').replaceAll(/\p{M}/gu, '').toLowerCase();
/** https://www.unicode.org/reports/tr39/ section 4, with the tables of the library */
const skeleton = (text: string) => rectifyConfusion(text.normalize('NFKC').normalize('NFD')).toLowerCase();
/** Full-width forms, accents, letter case and zeros in front of numbers do not tell two subjects apart for a reader. */
const simple = (text: string) => stripZeros(letters(text));

/** Each pair once; a pair of which `compared` is false for both is left out. */
export function findLookAlikes(
  pseudonyms: readonly string[],
  compared: (pseudonym: string) => boolean = () => true,
  limit = 1000,
): LookAlike[] {
  const found = new Map<string, LookAlike>();
  for (const keyOf of [simple, skeleton]) {
    for (const group of Map.groupBy(new Set(pseudonyms), keyOf).values()) {
      for (const [at, first] of group.entries()) {
        for (const second of group.slice(at + 1)) {
          if (found.size >= limit) return [...found.values()];
          if (!compared(first) && !compared(second)) continue;
          const key = JSON.stringify([first, second]);
          if (!found.has(key)) found.set(key, { first, second, why: whyOf(first, second) });
        }
      }
    }
  }
  return [...found.values()];
}

function whyOf(first: string, second: string): LookAlike['why'] {
  if (letters(first) === letters(second)) return 'letter case';
  return simple(first) === simple(second) ? 'leading zeros' : 'characters that look the same';
}

/** What in a pseudonym looks like an identity; null when nothing does. */
export function looksLikeIdentity(pseudonym: string): 'name' | 'date' | null {
  if (days.some((pattern) => pattern.test(pseudonym))) return 'date';
  return names.some((pattern) => pattern.test(pseudonym)) ? 'name' : null;
}

const namePart = "\\p{Lu}[\\p{L}\\p{M}'’-]*\\p{Ll}[\\p{L}\\p{M}'’-]*";
const particles = '(?:(?:von|van|de|del|della|da|di|zu|der|den|la|le)\\s+)*';
const names = [
  // Meier, Anna; MEIER, ANNA
  /^\p{L}[\p{L}\p{M}'’ -]+,\s*\p{L}[\p{L}\p{M}'’-]+/u,
  // Anna Meier
  new RegExp(`^${namePart}\\s+${particles}${namePart}`, 'u'),
];
const day = '(?:0?[1-9]|[12]\\d|3[01])';
const month = '(?:0?[1-9]|1[0-2])';
const year = '(?:19|20)\\d\\d';
/** Of the last 120 years or so. */
const days = [
  `${day}([./-])${month}\\1${year}`,
  `${month}([./-])${day}\\1${year}`,
  `${day}([./])${month}\\1\\d\\d`,
  `${year}([./-])${month}\\1${day}`,
  `${year}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\\d|3[01])`,
  `(?:0[1-9]|[12]\\d|3[01])(?:0[1-9]|1[0-2])${year}`,
].map((pattern) => new RegExp(`(?<!\\d)${pattern}(?!\\d)`));
