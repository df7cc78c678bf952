/**
 * Which passwords are taken: long enough and not easy to guess, without rules about kinds of characters, which make
 * people choose worse ones (NIST SP 800-63B, section 3.1.1.2).
 */
import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';

const leastLength = 12;
/** For bounds only: hashing takes the whole text. */
const mostLength = 256;

/** As a person types one: anything, within bounds. */
export const typedPassword = z.string().min(1).max(mostLength);

/** Guesses that an attacker with the hashes needs, as zxcvbn estimates them: its score 3, "safely unguessable". */
const leastScore = 3;

/** Loaded at the first use: its dictionaries are large. */
let estimator: Promise<(password: string, own: string[]) => number> | undefined;

async function loadEstimator() {
  const { ZxcvbnFactory } = await import('@zxcvbn-ts/core');
  const { adjacencyGraphs, dictionary } = await import('@zxcvbn-ts/language-common');
  const zxcvbn = new ZxcvbnFactory({ graphs: adjacencyGraphs, dictionary });
  return (password: string, own: string[]) => zxcvbn.check(password, own).score;
}

/**
 * @param own words that are easy to guess for this person: the account's and the hospital's name
 * @throws AppError PASSWORD_REFUSED
 */
export async function checkPassword(password: string, own: readonly string[]): Promise<void> {
  const length = [...password.normalize('NFKC')].length;
  if (length < leastLength)
    throw refused(`The password has ${length} characters; it needs at least ${leastLength}.`);
  if (length > mostLength) throw refused(`The password has more than ${mostLength} characters.`);
  estimator ??= loadEstimator();
  const words = own.flatMap((text) => [text, ...text.split(/[\s._-]+/)]).filter((word) => word.length > 2);
  if ((await estimator)(password, ['anneal', ...words]) < leastScore)
    throw refused('The password is easy to guess.');
}

const refused = (message: string) => new AppError('PASSWORD_REFUSED', message);

/** Without letters and digits that look alike. */
const alphabet = 'abcdefghjkmnpqrstuvwxyz23456789';

/** 99 random bits that can be read to somebody: `abcde-fghjk-mnpqr-stuvw`. */
export function createOneTimePassword(): string {
  const part = () => Array.from({ length: 5 }, () => alphabet[randomInt(alphabet.length)]).join('');
  return [part(), part(), part(), part()].join('-');
}
