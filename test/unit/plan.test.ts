import { describe, expect, it } from 'vitest';
import { trainableWeights } from '../../core/engine/training-graph.ts';
import { countParameters, type ModelState } from '../../core/lora/model-state.ts';
import { encodeModelState } from '../../core/lora/state-file.ts';
import { defaultRunConfig } from '../../core/strategy/defaults.ts';
import { planRun } from '../../core/strategy/plan.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import type { RunConfig } from '../../core/strategy/strategy.ts';
import { shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';

const base = shapeOnlyBase();
const settings = (changes: Partial<RunConfig> = {}): RunConfig =>
  defaultRunConfig({
    baseId: base.id,
    baseSha256: base.sha256,
    classes: ['a', 'b', 'c'],
    rMax: 6,
    rMin: 2,
    rounds: 7,
    ...changes,
  });

/** Runs the strategy with made-up training and weighs every file that would travel. */
async function reallySent(config: RunConfig, sites: number) {
  const strategy = getStrategy(config.strategy);
  let global: ModelState = createRunState(config, base);
  const rounds: { up: number; down: number; parameters: number }[] = [];
  let [parameters, bytes] = [0, 0];
  const count = (state: ModelState) => {
    parameters += countParameters(state);
    const { length } = encodeModelState(state);
    bytes += length;
    return length;
  };
  for (let round = 0; round < config.rounds; round++) {
    const plan = strategy.configureTrain(config, round);
    const baseNames = trainableWeights(base, plan.mode, config.lastK);
    const updates = Array.from({ length: sites }, (_, site) => ({
      siteId: String(site),
      examples: 10,
      state: trainedState(global, 100 * round + site, { base, baseNames }),
    }));
    const down = updates.map(() => count(global));
    const up = updates.map(({ state }) => count(state));
    rounds.push({ up: up[0]!, down: down[0]!, parameters: countParameters(updates[0]!.state) });
    const next = strategy.configureTrain(config, Math.min(round + 1, config.rounds - 1));
    global = (await strategy.aggregateTrain(config, global, updates, next)).state;
  }
  for (let site = 0; site < sites; site++) count(global);
  return { rounds, parameters, bytes };
}

describe('planRun', () => {
  it.each<[string, Partial<RunConfig>]>([
    ['sa-fedlora', {}],
    ['sa-fedlora on some layers, linear', { targetModules: 'linear', shape: 'linear', rMax: 16 }],
    ['sa-fedlora initiating with full', { initiatingMode: 'full' }],
    ['sa-fedlora initiating with last-k', { initiatingMode: 'last-k', lastK: 2 }],
    ['fedavg-lora', { strategy: 'fedavg-lora' }],
    ['fedavg-full', { strategy: 'fedavg-full' }],
    ['head-only', { strategy: 'head-only' }],
  ])('foretells parameters and bytes of %s to the last one', async (_name, changes) => {
    const config = settings(changes);
    const { plan, totals } = planRun(config, base, 3);
    const sent = await reallySent(config, 3);
    expect(plan.map((round) => round.bytesPerSite)).toEqual(sent.rounds.map((round) => round.up));
    expect(plan.map((round) => round.bytesDownPerSite)).toEqual(sent.rounds.map((round) => round.down));
    expect(plan.map((round) => round.trainableParameters)).toEqual(
      sent.rounds.map((round) => round.parameters),
    );
    expect(totals.parametersSent).toBe(sent.parameters);
    expect(totals.bytesSent).toBe(sent.bytes);
  });

  it('compares with full averaging and with the fixed rank by the same count', async () => {
    const { totals } = planRun(settings(), base, 2);
    const full = await reallySent(settings({ strategy: 'fedavg-full' }), 2);
    const fixed = await reallySent(settings({ strategy: 'fedavg-lora' }), 2);
    expect(totals.fedavgFullParameters).toBe(full.parameters);
    expect(totals.fixedRankParameters).toBe(fixed.parameters);
    expect(totals.parametersSent).toBeLessThan(totals.fixedRankParameters);
  });

  it('counts factors by hand', () => {
    const { plan } = planRun(settings({ targetModules: 'linear', strategy: 'fedavg-lora' }), base, 1);
    // body.q is 20×12 at rank 6; the head is 3×20 + 3.
    expect(plan[0]!.trainableParameters).toBe(6 * (20 + 12) + 3 * 20 + 3);
  });

  it('never grows in parameters or bytes when it initiates with LoRA', () => {
    const { plan } = planRun(settings(), base, 1);
    for (const [round, { trainableParameters, bytesPerSite }] of plan.entries()) {
      if (round === 0) continue;
      expect(trainableParameters).toBeLessThanOrEqual(plan[round - 1]!.trainableParameters);
      expect(bytesPerSite).toBeLessThanOrEqual(plan[round - 1]!.bytesPerSite);
    }
  });

  it('names the setting when the preset is unknown', () => {
    expect(() => planRun(settings({ targetModules: 'nonsense' }), base, 1)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining('nonsense') }),
    );
  });
});
