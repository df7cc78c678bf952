/** What a person says about a table while looking at its preview. */
import type { ImportPreview, TableRequest } from '../../core/api/contract.ts';

type Question = ImportPreview['questions'][number];

/** `first`: both are the subject `first`. */
export type PairAnswer = 'first' | 'second' | 'distinct';

export interface AnsweredPair extends Question {
  answer: PairAnswer | null;
}

const keyOf = ({ first, second }: Pick<Question, 'first' | 'second'>) => JSON.stringify([first, second]);

/** Questions that were answered are asked no more, and stay in sight. */
export function mergePairs(seen: readonly AnsweredPair[], asked: readonly Question[]): AnsweredPair[] {
  const known = new Set(seen.map(keyOf));
  const stillAsked = new Set(asked.map(keyOf));
  return [
    ...seen.filter((pair) => pair.answer !== null || stillAsked.has(keyOf(pair))),
    ...asked.filter((pair) => !known.has(keyOf(pair))).map((pair) => ({ ...pair, answer: null })),
  ];
}

export const answerPair = (
  pairs: readonly AnsweredPair[],
  pair: Question,
  answer: PairAnswer | null,
): AnsweredPair[] => pairs.map((one) => (keyOf(one) === keyOf(pair) ? { ...one, answer } : one));

export function answersOf(pairs: readonly AnsweredPair[]): Pick<TableRequest, 'same' | 'distinct'> {
  const same: Record<string, string> = {};
  const distinct: [string, string][] = [];
  for (const { first, second, answer } of pairs) {
    if (answer === 'first') same[second] = first;
    if (answer === 'second') same[first] = second;
    if (answer === 'distinct') distinct.push([first, second]);
  }
  return { same, distinct };
}
