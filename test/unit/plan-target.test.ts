import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { defaultRunConfig } from '../../core/config/run-config.ts';
import { createShapeOnlyVit, vitPresets } from '../../core/models/vit-presets.ts';
import { planRun } from '../../core/strategy/plan.ts';
import { findLimits } from '../../core/strategy/plan-target.ts';

const vitBase = createShapeOnlyVit(vitPresets.get('vit-base')!);
/** Reduction of the paper's abstract. */
const headline = 0.9362;

const settings = (changes: Partial<RunConfig> = {}): RunConfig =>
  defaultRunConfig({
    baseId: vitBase.id,
    baseSha256: vitBase.sha256,
    classes: Array.from({ length: 10 }, (_, index) => `class ${index}`),
    rounds: 100,
    initiatingRounds: 6,
    initiatingMode: 'full',
    ...changes,
  });

function reduction(changes: Partial<RunConfig>): number {
  const { totals } = planRun(settings(changes), vitBase, 10);
  return 1 - totals.parametersSent / totals.fedavgFullParameters;
}

describe('findLimits', () => {
  it("finds the settings on ViT-Base that give the paper's headline, and not one more of each", () => {
    const { reached, limits } = findLimits(settings(), vitBase, 10, headline);
    expect(reached).toBe(true);
    expect(limits).toHaveLength(4);
    for (const { changes, parameterReduction } of limits) {
      expect(parameterReduction).toBe(reduction(changes));
      expect(parameterReduction).toBeGreaterThanOrEqual(headline);
    }
    const [rank, full, lastK, fewest] = limits.map(({ changes }) => changes);
    const oneTooMuch: Partial<RunConfig>[] = [
      { rMax: rank!.rMax! + 1 },
      { ...full, initiatingRounds: full!.initiatingRounds! + 1 },
      { ...lastK, initiatingRounds: lastK!.initiatingRounds! + 1 },
      { ...fewest, rounds: fewest!.rounds! - 1 },
    ];
    for (const changes of oneTooMuch) expect(reduction(changes)).toBeLessThan(headline);
  });

  it('counts the headline as one can by hand', () => {
    const { changes } = findLimits(settings(), vitBase, 10, headline).limits[1]!;
    // A full initiating round is one of the hundred; LoRA adds well under a hundredth to six of them.
    expect(changes).toEqual({ initiatingMode: 'full', initiatingRounds: 6 });
    expect(reduction(changes)).toBeGreaterThan(1 - 0.06 - 0.01);
    expect(reduction(changes)).toBeLessThan(1 - 0.06);
  });

  it('says when nothing reaches the target', () => {
    const answer = findLimits(settings({ strategy: 'fedavg-full' }), vitBase, 10, 0.5);
    expect(answer).toEqual({ parameterReduction: 0, reached: false, limits: [] });
  });
});

describe('createShapeOnlyVit', () => {
  it.each([
    // Without the classifier of 1000 classes, from timm's vit_*_patch16_224.
    ['vit-tiny', 5_717_416 - 193_000],
    ['vit-small', 22_050_664 - 385_000],
    ['vit-base', 86_567_656 - 769_000],
    ['vit-large', 304_326_632 - 1_025_000],
  ])('%s has as many weights as the model itself', (id, expected) => {
    const base = createShapeOnlyVit(vitPresets.get(id)!);
    const count = [...base.weights.values()].reduce((sum, { data }) => sum + data.length, 0);
    expect(count).toBe(expected);
  });
});
