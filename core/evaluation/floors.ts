/**
 * What a run's network did before it was trained: floors that training has to beat. No method counts that a head without any
 * training beats (docs/evaluation.md), so they stand wherever a run's result does.
 */
import { preparingRounds, type RunConfig } from '../config/run-config.ts';
import type { GalleryMetrics } from './merge-galleries.ts';

/** Shares of held-out images that were found or called right; null where nobody told. */
export interface Floors {
  /** The untrained network's nearest neighbour in the sites' galleries. */
  readonly untrained: number | null;
  /** A classifier of class means on the untrained network; null in a run that starts otherwise. */
  readonly classMeans: number | null;
  /** The last state's classifier; null while the run goes on. */
  readonly ended: number | null;
  /** Sites add noise to what they tell before the end. */
  readonly isRough: boolean;
}

export interface RunFigures {
  readonly config: Pick<RunConfig, 'headStart' | 'smallCell'>;
  /** Of the state that the run started from. */
  readonly untrained: GalleryMetrics | null;
  /** Accuracy of each closed round's result, from the first round on. */
  readonly accuracies: readonly (number | null)[];
  readonly isOver: boolean;
}

export function floorsOf({ config, untrained, accuracies, isOver }: RunFigures): Floors {
  const hasMeans = preparingRounds(config) > 0;
  return {
    untrained: untrained?.rank1 ?? null,
    classMeans: hasMeans ? (accuracies[0] ?? null) : null,
    ended: isOver ? (accuracies.at(-1) ?? null) : null,
    isRough: config.smallCell > 1,
  };
}

/** Sums of scaled counts may be a last digit off. */
const rounding = 1e-9;

/** A sentence for people when a run ends below a floor of its own; null when it does not, or nobody knows. */
export function belowFloor({ untrained, classMeans, ended, isRough }: Floors): string | null {
  if (ended === null) return null;
  const isAbove = (floor: number | null): floor is number => floor !== null && ended < floor - rounding;
  const about = (floor: number) => `${isRough ? 'about ' : ''}${formatShare(floor)}`;
  const floors = [
    ...(isAbove(untrained) ? [`untrained nearest neighbour (${about(untrained)})`] : []),
    ...(isAbove(classMeans) ? [`class means before training (${about(classMeans)})`] : []),
  ];
  return floors.length === 0
    ? null
    : `The run ends at ${formatShare(ended)}, below its own ${floors.join(' and its ')}.`;
}

/** The floors and the end in one line for people; null where none of them is known. */
export function describeFloors({ untrained, classMeans, ended, isRough }: Floors): string | null {
  const about = isRough ? 'about ' : '';
  const known = [
    ...(untrained === null ? [] : [`untrained nearest neighbour ${about}${formatShare(untrained)}`]),
    ...(classMeans === null ? [] : [`class means ${about}${formatShare(classMeans)}`]),
  ];
  if (known.length === 0) return null;
  const end = ended === null ? '' : `; at the end ${formatShare(ended)}`;
  return `Before training: ${known.join(', ')}${end}.`;
}

/** What goes with an exported adapter, for whoever uses it without the run. */
export interface ExportedFigures {
  /** Of the exported state, on the sites' held-out images. */
  readonly accuracy: number | null;
  readonly untrained: number | null;
  readonly classMeans: number | null;
  /** Whether sites added noise to these figures. */
  readonly isRough: boolean;
  /** Absent where it is not below. */
  readonly belowFloor?: string;
}

/** @param floors of the run, with the exported state as its end */
export function exportedFigures(floors: Floors): ExportedFigures {
  const { untrained, classMeans, ended: accuracy, isRough } = floors;
  const below = belowFloor(floors);
  return { accuracy, untrained, classMeans, isRough, ...(below !== null && { belowFloor: below }) };
}

const formatShare = (share: number) => `${(100 * share).toFixed(1)} %`;
