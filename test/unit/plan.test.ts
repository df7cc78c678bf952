import { describe, expect, it } from 'vitest';
import type { RunConfig } from '../../core/config/run-config.ts';
import { countParameters, type ModelState } from '../../core/lora/model-state.ts';
import { parseSafetensors } from '../../core/lora/safetensors.ts';
import { elementCount } from '../../core/shared/tensor.ts';
import { participantsOf } from '../../core/strategy/participation.ts';
import { planRun } from '../../core/strategy/plan.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { siteStart } from '../../core/strategy/site-rank.ts';
import type { RoundPlan } from '../../core/strategy/strategy.ts';
import { sentTensors } from '../../core/strategy/what-travels.ts';
import {
  decodeGlobalState,
  decodeUpdate,
  encodeFrozenBase,
  encodeGlobalState,
  encodeUpdate,
} from '../../core/strategy/wire/wire.ts';
import { shapeOnlyBase } from '../fixtures/random-state.ts';
import { aggregateOnce, runSettings, trainAs } from '../fixtures/strategy-rounds.ts';

const base = shapeOnlyBase();
const settings = (changes: Partial<RunConfig> = {}) => runSettings(base, changes);

interface Sent {
  up: number;
  down: number;
  parameters: number;
}

/** Runs the strategy with made-up training through the wire's own coding, and weighs every file that would travel. */
async function reallySent(config: RunConfig, sites: number) {
  const strategy = getStrategy(config.strategy);
  const initial = createRunState(config, base);
  const ids = Array.from({ length: sites }, (_, site) => String(site).padStart(6, '0'));
  const total = { parameters: 0, bytes: 0 };
  const send = (bytes: number, parameters: number, times = 1) => {
    total.bytes += times * bytes;
    total.parameters += times * parameters;
  };
  const valuesOf = (state: ModelState, plan: RoundPlan) =>
    [...sentTensors(state, { plan, config }).values()].reduce((sum, { data }) => sum + data.length, 0);

  const valuesIn = (file: Uint8Array) =>
    [...parseSafetensors(file, 'global').entries].reduce(
      (sum, [name, { dims }]) => sum + (name === 'scales' ? 0 : elementCount(dims)),
      0,
    );

  let global = initial;
  let part: ModelState | null = null;
  let memory = null;
  const rounds: Sent[] = [];
  const fetchAll = (plan: RoundPlan): { bytes: number; state: ModelState } => {
    const file = encodeGlobalState(global, { config, plan, base });
    const under = part === null ? null : encodeFrozenBase(part, { config, base });
    const bytes = file.length + (under?.length ?? 0);
    send(bytes, valuesIn(file) + (part === null ? 0 : countParameters(part)), sites);
    part = null;
    return { bytes, state: decodeGlobalState(file, 'global', { config, plan, base, initial }) };
  };
  for (let round = 0; round < config.rounds; round++) {
    const plan = strategy.configureTrain(config, round);
    const { bytes: down, state: fetched } = fetchAll(plan);
    const sizes: { bytes: number; parameters: number }[] = [];
    const updates = participantsOf(config, round, ids).map((siteId) => {
      const start = siteStart(config, `site ${Number(siteId)}`, fetched);
      const trained = trainAs(config, base, start, round, 100 * round + Number(siteId));
      const { bytes } = encodeUpdate({ config, plan, base, start: fetched, trained });
      sizes.push({ bytes: bytes.length, parameters: valuesOf(trained, plan) });
      return {
        siteId,
        examples: 10,
        state: decodeUpdate(bytes, siteId, { config, plan, base, start: fetched }),
      };
    });
    for (const { bytes, parameters } of sizes) send(bytes, parameters);
    rounds.push({ up: sizes.at(-1)!.bytes, down, parameters: sizes.at(-1)!.parameters });
    const result = await aggregateOnce(config, base, round, fetched, updates, { memory });
    ({ state: global, memory, frozenBaseDelta: part } = result);
  }
  fetchAll(strategy.configureTrain(config, config.rounds - 1));
  return { rounds, ...total };
}

const halves = { up: 'fp16', down: 'fp16', errorFeedback: false } as const;
const eightBits = { up: 'int8', down: 'fp16', errorFeedback: true } as const;

describe('planRun', () => {
  it.each<[string, Partial<RunConfig>]>([
    ['sa-fedlora', {}],
    ['sa-fedlora on some layers, linear', { targetModules: 'linear', shape: 'linear', rMax: 16 }],
    ['sa-fedlora initiating with full', { initiatingMode: 'full' }],
    ['sa-fedlora initiating with last-k', { initiatingMode: 'last-k', lastK: 2 }],
    ['sa-fedlora at the top of the ranks', { shape: 'cosine', heatingRounds: 2 }],
    ['sa-fedlora that freezes what it cuts', { cutOff: 'freeze', shape: 'linear' }],
    [
      'sa-fedlora that freezes, with a rank of its own for one layer and full at first',
      { cutOff: 'freeze', initiatingMode: 'full', rankPattern: { 'body.q': 2 }, wire: halves },
    ],
    ['sa-fedlora with A fixed', { freezeA: true }],
    [
      'sa-fedlora with A fixed, full at first, with a rank of its own for one layer, half precision',
      { freezeA: true, initiatingMode: 'full', rankPattern: { 'body.q': 2 }, wire: halves },
    ],
    ['flexlora with ranks by site', { strategy: 'flexlora', siteRanks: { 'site 0': 2, 'site 1': 4 } }],
    ['hetlora with ranks by site', { strategy: 'hetlora', siteRanks: { 'site 0': 3 } }],
    ['flora-stack', { strategy: 'flora-stack' }],
    ['flora-stack whose stack is larger than its matrix', { strategy: 'flora-stack', rMax: 8 }],
    ['fedavg-lora', { strategy: 'fedavg-lora' }],
    ['ffa-lora', { strategy: 'ffa-lora' }],
    ['fedsa-lora with heads at the sites', { strategy: 'fedsa-lora', localHead: true }],
    ['fedavg-full', { strategy: 'fedavg-full' }],
    ['fedavg-full, half precision', { strategy: 'fedavg-full', wire: halves }],
    ['fedprox-full', { strategy: 'fedprox-full' }],
    ['head-only', { strategy: 'head-only' }],
    ['sa-fedlora in eight bits, full at first', { initiatingMode: 'full', wire: eightBits }],
    ['sa-fedlora with two of three sites a round', { participation: 0.6 }],
  ])('foretells parameters and bytes of %s to the last one', async (_name, changes) => {
    const config = settings(changes);
    const { plan, totals } = planRun(config, base, 3);
    const sent = await reallySent(config, 3);
    expect(plan.map((round) => round.bytesPerSite)).toEqual(sent.rounds.map((round) => round.up));
    expect(plan.map((round) => round.bytesDownPerSite)).toEqual(sent.rounds.map((round) => round.down));
    expect(plan.map((round) => round.parametersPerSite)).toEqual(
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
