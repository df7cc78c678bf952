/** What a run's network did before it was trained: a floor below which no run may end without saying so. */
import type { GalleryMetrics } from './merge-galleries.ts';

export interface EndedRun {
  /** Share of held-out images that the last state's classifier calls right. */
  accuracy: number | null;
  /** Of the state that the run started from; null where no site told. */
  untrained: GalleryMetrics | null;
  /** Above 1, sites add noise to what they tell of the first state. */
  smallCell: number;
}

/** Sums of scaled counts may be a last digit off. */
const rounding = 1e-9;

/** A sentence for people when a run ends below its own untrained nearest neighbour; null when it does not, or nobody knows. */
export function belowUntrained({ accuracy, untrained, smallCell }: EndedRun): string | null {
  const floor = untrained?.rank1 ?? null;
  if (accuracy === null || floor === null || accuracy >= floor - rounding) return null;
  const about = smallCell > 1 ? 'about ' : '';
  return `The run ends below its own untrained nearest neighbour: ${percent(accuracy)} against ${about}${percent(floor)}.`;
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
