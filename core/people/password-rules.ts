/**
 * Which passwords are taken: long enough and not easy to guess, without rules about kinds of characters, which make
 * people choose worse ones (NIST SP 800-63B, section 3.1.1.2).
 */
import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';

const leastLength = 12;
/** A bound on the work of one request. */
const mostLength = 256;

/** As a person types one: anything, within bounds. */
export const typedPassword = z.string().min(1).max(mostLength);

/** Guesses that an attacker with the hashes needs, as zxcvbn estimates them: its score 3, "safely unguessable". */
const leastScore = 3;

/** Characters of a password beside the person's own words. */
const leastWithoutOwn = 8;

/** Loaded at the first use: its dictionaries are large. */
let estimator: Promise<(password: string, own: string[]) => number> | undefined;

async function loadEstimator() {
  const { ZxcvbnFactory } = await import('@zxcvbn-ts/core');
  const { adjacencyGraphs, dictionary } = await import('@zxcvbn-ts/language-common');
  const zxcvbn = new ZxcvbnFactory({ graphs: adjacencyGraphs, dictionary });
  return (password: string, own: string[]) => zxcvbn.check(password, own).score;
}

/** What messages call it. */
type Kind = 'password' | 'passphrase';

/**
 * @param own words that are easy to guess for this person: the account's and the hospital's name
 * @throws AppError PASSWORD_REFUSED
 */
export async function checkPassword(
  password: string,
  own: readonly string[],
  kind: Kind = 'password',
): Promise<void> {
  const length = [...password.normalize('NFKC')].length;
  if (length < leastLength)
    throw refused(`The ${kind} has ${length} characters; it needs at least ${leastLength}.`);
  if (length > mostLength) throw refused(`The ${kind} has more than ${mostLength} characters.`);
  estimator ??= loadEstimator();
  const words = ['anneal', ...own.flatMap((text) => text.split(/[\s._-]+/))].filter(
    (word) => word.length > 2,
  );
  const score = (await estimator)(password, words);
  if (score < leastScore || lengthWithout(words, password) < leastWithoutOwn)
    throw refused(`The ${kind} is easy to guess.`);
}

/** Words that anybody knows of this person add nothing, however often they are repeated. */
function lengthWithout(words: readonly string[], password: string): number {
  const rest = words.reduce((text, word) => text.split(word.toLowerCase()).join(''), password.toLowerCase());
  return [...rest].length;
}

const refused = (message: string) => new AppError('PASSWORD_REFUSED', message);

/** Without letters and digits that look alike. */
const alphabet = 'abcdefghjkmnpqrstuvwxyz23456789';

/** 99 random bits that can be read to somebody: `abcde-fghjk-mnpqr-stuvw`. */
export function createOneTimePassword(): string {
  const part = () => Array.from({ length: 5 }, () => alphabet[randomInt(alphabet.length)]).join('');
  return [part(), part(), part(), part()].join('-');
}
