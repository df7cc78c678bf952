/** Which of a method's trials is the best. */
import type { FinishedRun } from '../../../core/simulation/record.ts';
import type { Trial } from './experiments.ts';

/** A trial with what it measured, as the results list it. */
export interface TriedRate {
  readonly dataset: string;
  readonly strategy: string;
  readonly setting: string;
  readonly value: number;
  /** On validation images, at the end; null when the run failed. */
  readonly accuracy: number | null;
  /** What decides: see {@link scoreOf}. */
  readonly score: number | null;
  readonly chosen: boolean;
}

/** So many of the last rounds count: one round alone says little with few images. */
const lastRounds = 2;

/** Mean accuracy of the last rounds; null when none of them has one. */
export function scoreOf({ rounds }: Pick<FinishedRun, 'rounds'>): number | null {
  const known = rounds.slice(-lastRounds).flatMap(({ accuracy }) => accuracy ?? []);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

/**
 * The trial with the highest score of each method; of equal ones that with the lower rate.
 * @param runOf the finished run of a trial by its label; a failed one is no candidate
 * @throws Error when all trials of a method failed
 */
export function chooseRates(
  dataset: string,
  trials: readonly Trial[],
  runOf: ReadonlyMap<string, FinishedRun>,
): { rates: Map<string, number>; search: TriedRate[] } {
  const rates = new Map<string, number>();
  const search: TriedRate[] = [];
  for (const [method, own] of Map.groupBy(trials, (trial) => trial.method)) {
    const scored = own.map((trial) => {
      const run = runOf.get(trial.label);
      return { trial, run, score: run === undefined ? null : scoreOf(run) };
    });
    const best = scored
      .filter(({ score }) => score !== null)
      .sort((a, b) => b.score! - a.score! || a.trial.rate - b.trial.rate)[0];
    if (best === undefined) throw new Error(`All trials of ${method} on ${dataset} failed; see the log.`);
    rates.set(method, best.trial.rate);
    for (const { trial, run, score } of scored) {
      const { tunes: setting, rate: value } = trial;
      const accuracy = run?.final.accuracy ?? null;
      search.push({
        dataset,
        strategy: method,
        setting,
        value,
        accuracy,
        score,
        chosen: trial === best.trial,
      });
    }
  }
  return { rates, search };
}
