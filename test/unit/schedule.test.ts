import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defaultRunConfig, type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { rankAt, rankAtProgress, scheduledRound, stageAt } from '../../core/strategy/schedule.ts';

function config(changes: Partial<RunConfig> = {}): RunConfig {
  return defaultRunConfig({
    baseId: 'x',
    baseSha256: '0'.repeat(64),
    classes: ['a', 'b'],
    heatingRounds: 1,
    ...changes,
  });
}
const ranksOf = (settings: RunConfig) =>
  Array.from({ length: settings.rounds }, (_, round) => rankAt(settings, round));

const anyConfig = fc
  .record({
    shape: fc.constantFrom('cubic' as const, 'linear' as const, 'cosine' as const),
    initiatingRounds: fc.nat(4),
    heatingRounds: fc.nat(4),
    annealing: fc.integer({ min: 1, max: 12 }),
    coolingRounds: fc.nat(4),
    rMin: fc.integer({ min: 1, max: 20 }),
    more: fc.nat(60),
  })
  .map(({ annealing, more, ...rest }) =>
    config({
      ...rest,
      rMax: rest.rMin + more,
      rounds: rest.initiatingRounds + rest.heatingRounds + annealing + rest.coolingRounds,
    }),
  );

describe('schedule', () => {
  it('is valid by default', () => {
    expect(runConfigSchema.parse(config())).toEqual(config());
  });

  it('goes through its stages with the default cubic ranks', () => {
    const plans = Array.from({ length: 10 }, (_, round) => scheduledRound(config(), round));
    expect(plans.map((plan) => plan.stage)).toEqual([
      ...['initiating', 'initiating', 'heating'],
      ...new Array(6).fill('annealing'),
      'cooling',
    ]);
    // p = 0, 0.2, …, 1: 2 + 14·(1 − p)³
    expect(plans.map((plan) => plan.rank)).toEqual([16, 16, 16, 16, 9, 5, 3, 2, 2, 2]);
    expect(plans.every((plan) => plan.mode === 'lora')).toBe(true);
    expect(plans.map((plan) => plan.proximal > 0)).toEqual([true, true, ...new Array(8).fill(false)]);
  });

  it.each([
    ['linear', [16, 13, 9, 6, 2]],
    ['cosine', [16, 14, 9, 4, 2]],
    ['cubic', [16, 8, 4, 2, 2]],
  ] as const)('follows the %s formula', (shape, expected) => {
    expect([0, 0.25, 0.5, 0.75, 1].map((p) => rankAtProgress(shape, 16, 2, p))).toEqual(expected);
  });

  it('never grows, is an integer in [rMin, rMax] and hits both ends', () => {
    fc.assert(
      fc.property(anyConfig, (settings) => {
        const ranks = ranksOf(settings);
        ranks.forEach((rank, round) => {
          expect(Number.isInteger(rank)).toBe(true);
          expect(rank).toBeGreaterThanOrEqual(settings.rMin);
          expect(rank).toBeLessThanOrEqual(settings.rMax);
          if (round > 0) expect(rank).toBeLessThanOrEqual(ranks[round - 1]!);
        });
        const stages = ranks.map((_, round) => stageAt(settings, round));
        const lengths = {
          initiating: 'initiatingRounds',
          heating: 'heatingRounds',
          cooling: 'coolingRounds',
        } as const;
        for (const [stage, setting] of Object.entries(lengths)) {
          expect(stages.filter((each) => each === stage)).toHaveLength(settings[setting]);
        }
        const annealing = ranks.filter((_, round) => stages[round] === 'annealing');
        if (annealing.length > 1) expect(annealing[0]).toBe(settings.rMax);
        expect(annealing.at(-1)).toBe(settings.rMin);
        expect(ranks.at(-1)).toBe(settings.rMin);
      }),
    );
  });

  it.each(['full', 'last-k'] as const)('has no factors while it initiates with %s', (initiatingMode) => {
    const settings = config({ initiatingMode });
    expect(scheduledRound(settings, 1)).toMatchObject({ stage: 'initiating', mode: initiatingMode, rank: 0 });
    expect(scheduledRound(settings, 2)).toMatchObject({ stage: 'heating', mode: 'lora', rank: 16 });
  });
});
