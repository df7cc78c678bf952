/** Learning-rate schedules: a factor on every learning rate by step. */

export type ScheduleName = 'cosine' | 'linear' | 'constant';

/**
 * Linear rise over the first `warmupShare` of the steps, then half a cosine or a straight line down towards 0,
 * or no fall at all.
 * @param step 0-based
 * @returns factor in (0, 1]
 */
export function learningRateFactor(
  step: number,
  steps: number,
  warmupShare: number,
  schedule: ScheduleName = 'cosine',
): number {
  const warmup = Math.round(steps * warmupShare);
  if (step < warmup) return (step + 1) / (warmup + 1);
  if (schedule === 'constant') return 1;
  const progress = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  return schedule === 'linear' ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
}
