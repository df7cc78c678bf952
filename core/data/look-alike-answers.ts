/** What people said about pseudonyms that look alike. Kept by keyed hash: an erased subject's name is in no setting. */
import { z } from 'zod';
import { normalisePseudonym } from '../consent/pseudonym.ts';
import { AppError } from '../shared/errors.ts';
import { sha256Schema as ref } from '../shared/sha256-schema.ts';
import { quote } from '../shared/visible-text.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { findLookAlikes, type LookAlike } from './tables/look-alikes.ts';
import type { TableRequest } from './tables/request.ts';

const setting = 'import.lookAlikes';
const answersSchema = z.strictObject({
  /** Written so, to the subject that is meant. */
  same: z.record(ref, ref),
  distinct: z.array(z.tuple([ref, ref])),
});
type Answers = z.infer<typeof answersSchema>;

/** A pair that somebody has to decide about. */
export interface LookAlikeQuestion extends LookAlike {
  /** Whether the subject is here already. */
  firstKnown: boolean;
  secondKnown: boolean;
}

export interface LookAlikes {
  questions: LookAlikeQuestion[];
  /** The pseudonym that a subject of the table has, by the one that is written there. */
  meant: ReadonlyMap<string, string>;
}

type Said = Pick<TableRequest, 'same' | 'distinct'>;

/**
 * Writes nothing.
 * @param subjects as the table writes them
 * @throws AppError CONFIG_INVALID when an answer names a pseudonym that is nowhere
 */
export function askAboutLookAlikes(
  store: ReadOnlyStore | Store,
  subjects: readonly string[],
  request: Said,
): LookAlikes {
  const known = store.subjects.pseudonyms();
  const isKnown = new Set(known);
  const inTable = new Set(subjects);
  const now = saidNow(request, (one) => isKnown.has(one) || inTable.has(one));
  const before = saidBefore(store);
  const meant = new Map<string, string>();
  const questions: LookAlikeQuestion[] = [];
  for (const [one, other] of now.same) meant.set(one, other);
  for (const pair of findLookAlikes([...known, ...subjects], (one) => inTable.has(one))) {
    const key = pairKey([pair.first, pair.second]);
    if (now.keys.has(key)) continue;
    const answer = before(pair);
    if (answer === 'first is second') meant.set(pair.first, pair.second);
    else if (answer === 'second is first') meant.set(pair.second, pair.first);
    else if (answer === null)
      questions.push({
        ...pair,
        firstKnown: isKnown.has(pair.first),
        secondKnown: isKnown.has(pair.second),
      });
  }
  return { questions, meant: withoutChains(meant) };
}

/** What is said now stands for what was said before about the same two. */
export function rememberAnswers(store: Store, request: Said): void {
  const now = saidNow(request, () => true);
  if (now.keys.size === 0) return;
  const toRefs = ([one, other]: readonly [string, string]): [string, string] => [
    store.subjects.refOf(one),
    store.subjects.refOf(other),
  ];
  const same = now.same.map(toRefs);
  const distinct = now.distinct.map(toRefs);
  const keys = new Set([...same, ...distinct].map(pairKey));
  const stored = storedAnswers(store);
  const isKept = (pair: [string, string]) => !keys.has(pairKey(pair));
  const answers: Answers = {
    same: Object.fromEntries([...Object.entries(stored.same).filter(isKept), ...same]),
    distinct: [...stored.distinct.filter(isKept), ...distinct],
  };
  store.settings.set(setting, answers);
}

const storedAnswers = (store: Pick<ReadOnlyStore, 'settings'>): Answers =>
  store.settings.get(setting, answersSchema) ?? { same: {}, distinct: [] };

const pairKey = (pair: readonly [string, string]) => JSON.stringify([...pair].sort());

function saidNow({ same = {}, distinct = [] }: Said, isThere: (pseudonym: string) => boolean) {
  const check = (pseudonym: string) => {
    const written = normalisePseudonym(pseudonym);
    if (isThere(written)) return written;
    throw new AppError(
      'CONFIG_INVALID',
      `An answer names the pseudonym ${quote(pseudonym)}, which neither the table nor this site has.`,
      { action: 'Write the pseudonyms of the answer as they stand in the preview.' },
    );
  };
  const both = ([one, other]: readonly [string, string]): [string, string] => [check(one), check(other)];
  const said = { same: Object.entries(same).map(both), distinct: distinct.map(both) };
  return { ...said, keys: new Set([...said.same, ...said.distinct].map(pairKey)) };
}

/** No reference is made where nothing was ever answered: making the first one writes its key. */
function saidBefore(store: ReadOnlyStore | Store) {
  const { same, distinct } = storedAnswers(store);
  const keys = new Set(distinct.map(pairKey));
  const isEmpty = keys.size + Object.keys(same).length === 0;
  return ({ first, second }: LookAlike): 'first is second' | 'second is first' | 'distinct' | null => {
    if (isEmpty) return null;
    const [one, other] = [store.subjects.refOf(first), store.subjects.refOf(second)];
    if (same[one] === other) return 'first is second';
    if (same[other] === one) return 'second is first';
    return keys.has(pairKey([one, other])) ? 'distinct' : null;
  };
}

/** `a` is `b`, and `b` is `c`: `a` is `c`. Answers in a circle end where they began. */
function withoutChains(meant: ReadonlyMap<string, string>): Map<string, string> {
  return new Map(
    [...meant.keys()].map((start) => {
      const passed = new Set<string>();
      let end = start;
      while (meant.has(end) && !passed.has(end)) {
        passed.add(end);
        end = meant.get(end)!;
      }
      return [start, end];
    }),
  );
}
