/** Counts an evaluation's images as they are computed; nothing about a single one is kept. */
import {
  type EvaluationCounts,
  maxCountedClasses,
  maxScoredClasses,
  type ScoreBlock,
  scoreBinOf,
  scoreBins,
  topCount,
} from '../evaluation/counts.ts';

export interface EvaluationTally {
  /** @param logits one row: the head's, without margin, over all classes */
  count(label: number, logits: Float32Array): void;
  /** Σ −log softmax(logits)[label] so far. */
  readonly lossSum: number;
  counts(): EvaluationCounts;
}

/**
 * Ties go to the class that comes first. A model that diverged and gives no numbers counts as one for which all
 * classes are alike.
 */
export function createEvaluationTally(classes: number): EvaluationTally {
  const perClass = Array.from({ length: classes }, () => ({ total: 0, correct: 0, predicted: 0 }));
  const byConfidence = Array.from({ length: 101 }, () => ({ total: 0, correct: 0 }));
  const scored = classes <= maxScoredClasses ? classes : 0;
  const positives = new Uint32Array(scored * scoreBins);
  const negatives = new Uint32Array(scored * scoreBins);
  const exponentials = new Float64Array(classes);
  const alike = new Float32Array(classes);
  const whole = { total: 0, correct: 0, top5: 0 };
  let lossSum = 0;

  /** Log-odds of a class: log p − log(1 − p), summed over the others so that nothing cancels near p = 1. */
  function countScores(label: number, predicted: number, sum: number): void {
    let others = 0;
    for (let i = 0; i < classes; i++) if (i !== predicted) others += exponentials[i]!;
    for (let i = 0; i < scored; i++) {
      const own = exponentials[i]!;
      const logOdds = Math.log(own) - Math.log(i === predicted ? others : sum - own);
      (i === label ? positives : negatives)[i * scoreBins + scoreBinOf(logOdds)]! += 1;
    }
  }

  return {
    get lossSum() {
      return lossSum;
    },
    count(label, given) {
      const logits = given.every(Number.isFinite) ? given : alike;
      const predicted = indexOfLargest(logits);
      const largest = logits[predicted]!;
      let sum = 0;
      let ahead = 0;
      for (let i = 0; i < classes; i++) {
        exponentials[i] = Math.exp(logits[i]! - largest);
        sum += exponentials[i]!;
        const lead = logits[i]! - logits[label]!;
        if (lead > 0 || (lead === 0 && i < label)) ahead += 1;
      }
      const isRight = predicted === label ? 1 : 0;
      whole.total += 1;
      whole.correct += isRight;
      if (ahead < topCount) whole.top5 += 1;
      perClass[label]!.total += 1;
      perClass[label]!.correct += isRight;
      perClass[predicted]!.predicted += 1;
      const confidence = byConfidence[Math.round(100 / sum)]!;
      confidence.total += 1;
      confidence.correct += isRight;
      lossSum += Math.log(sum) + largest - logits[label]!;
      countScores(label, predicted, sum);
    },
    counts: () => ({
      smallCell: 1,
      classes,
      ...whole,
      top5: classes > topCount ? whole.top5 : null,
      perClass: classes <= maxCountedClasses ? perClass : null,
      calibration: byConfidence
        .map((counts, confidence) => ({ confidence, ...counts }))
        .filter(({ total }) => total > 0),
      scores:
        scored === 0
          ? null
          : Array.from({ length: classes }, (_, index) => blocksOf(index, positives, negatives)),
    }),
  };
}

/** Bins of one class that are not empty. */
function blocksOf(index: number, positives: Uint32Array, negatives: Uint32Array): ScoreBlock[] {
  return Array.from({ length: scoreBins }, (_, bin): ScoreBlock => {
    const at = index * scoreBins + bin;
    return [bin, bin, positives[at]!, negatives[at]!];
  }).filter(([, , p, n]) => p + n > 0);
}

function indexOfLargest(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
