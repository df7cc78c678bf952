/** Annealing with A fixed: exact means, best cuts within the seeded rows, and few numbers that stand for A. */
import fc from 'fast-check';
import { Matrix, SVD } from 'ml-matrix';
import { describe, expect, it } from 'vitest';
import { type RunConfig, runConfigSchema } from '../../core/config/run-config.ts';
import { type LoraLayer, type ModelState, nameOfA, tensorsOf } from '../../core/lora/model-state.ts';
import { parseSafetensors } from '../../core/lora/safetensors.ts';
import { encodeRawSafetensors } from '../../core/lora/safetensors-writer.ts';
import { coefficientsOf, combineRows, drawSeededRows, layerDirections } from '../../core/lora/seeded-rows.ts';
import { createRandom } from '../../core/shared/random.ts';
import { elementCount, type FloatTensor, floatTensor } from '../../core/shared/tensor.ts';
import { layerRanks } from '../../core/strategy/lora-settings.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import type { SiteUpdate } from '../../core/strategy/strategy.ts';
import {
  decodeGlobalState,
  decodeUpdate,
  type EncodedUpdate,
  encodeGlobalState,
  encodeUpdate,
} from '../../core/strategy/wire/wire.ts';
import { deltaWeight } from '../fixtures/delta-weight.ts';
import { randomTensor, shapeOnlyBase } from '../fixtures/random-state.ts';
import { statesEqual } from '../fixtures/states-equal.ts';
import {
  aggregateOnce,
  deltas,
  relativeError,
  runSettings,
  trainAs,
  weightedSum,
} from '../fixtures/strategy-rounds.ts';

const base = shapeOnlyBase();
const settings = (changes: Partial<RunConfig> = {}) =>
  runSettings(base, { strategy: 'sa-fedlora', freezeA: true, ...changes });
const planOf = (config: RunConfig, round: number) =>
  getStrategy(config.strategy).configureTrain(config, Math.min(round, config.rounds - 1));

function sitesOf(config: RunConfig, global: ModelState, round: number): SiteUpdate[] {
  return [1, 2, 3].map((site) => ({
    siteId: `site-${site}`,
    examples: 10 * site,
    state: trainAs(config, base, global, round, 10 * round + site),
  }));
}

/** All rounds; each state goes through its file, as it does between a coordinator and its sites. */
async function* runOf(config: RunConfig) {
  const initial = createRunState(config, base);
  let global = initial;
  for (let round = 0; round < config.rounds; round++) {
    const sites = sitesOf(config, global, round);
    const result = await aggregateOnce(config, base, round, global, sites);
    const context = { config, plan: planOf(config, round + 1), base };
    const file = encodeGlobalState(result.state, context);
    const arrived = decodeGlobalState(Uint8Array.from(file), 'global', { ...context, initial });
    yield { round, before: global, sites, result, file, arrived, initial };
    global = arrived;
  }
}

/** A tensor's rows, [r, width]. */
function rowsOf({ dims, data }: FloatTensor): Matrix {
  const [r = 0, ...rest] = dims;
  return Matrix.from1DArray(r, elementCount(rest), Array.from(data));
}

/** ‖part of A outside the space of the rows‖ / ‖A‖. */
function outside(a: FloatTensor, rows: FloatTensor): number {
  const fitted = rowsOf(coefficientsOf(a, rows)).mmul(rowsOf(rows));
  return Matrix.sub(rowsOf(a), fitted).norm('frobenius') / rowsOf(a).norm('frobenius');
}

const sumOfSquares = (values: readonly number[]) => values.reduce((sum, value) => sum + value * value, 0);
const smallestShare = ({ diagonal }: SVD) => diagonal.at(-1)! / diagonal[0]!;

const layerShapes = fc.record({
  seed: fc.integer(),
  out: fc.integer({ min: 1, max: 9 }),
  inDims: fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 9 })),
    fc.tuple(fc.integer({ min: 1, max: 3 }), fc.constant(2), fc.constant(2)),
  ),
  rank: fc.integer({ min: 1, max: 6 }),
  lower: fc.integer({ min: 1, max: 6 }),
});

function layerOf({
  seed,
  out,
  inDims,
  rank,
}: {
  seed: number;
  out: number;
  inDims: number[];
  rank: number;
}): LoraLayer {
  const r = Math.min(rank, out, elementCount(inDims));
  const b = randomTensor(inDims.length > 1 ? [out, r, 1, 1] : [out, r], createRandom(seed));
  return { module: 'layer', r, scale: 1.5, a: drawSeededRows(seed, 'layer', r, inDims), b };
}

describe('drawn rows', () => {
  it('of a lower rank are the first of a higher one, and those that a run starts with', () => {
    const rows = drawSeededRows(1, 'body.q', 6, [12]);
    expect(drawSeededRows(1, 'body.q', 4, [12]).data).toEqual(rows.data.subarray(0, 48));
    expect(createRunState(settings(), base).lora.get('body.q')!.a).toEqual(rows);
    expect(drawSeededRows(2, 'body.q', 6, [12]).data).not.toEqual(rows.data);
  });

  it('a cut is the best approximation of its rank, with rows of A that are mixtures of the drawn ones', () => {
    fc.assert(
      fc.property(layerShapes, (shape) => {
        const layer = layerOf(shape);
        const rank = Math.min(shape.lower, layer.r);
        const directions = layerDirections(layer);
        const { a, b, energy, keptEnergy } = directions.cut(rank, 3);
        const whole = deltaWeight(layer);
        const [rows = 1, ...rest] = whole.dims;
        const dense = Matrix.from1DArray(rows, elementCount(rest), Array.from(whole.data));
        const sizes = new SVD(dense, { autoTranspose: true }).diagonal;
        const of = (tensor: FloatTensor) => new Map([['layer', tensor]]);
        const lost = relativeError(of(deltaWeight({ ...layer, r: rank, scale: 3, a, b })), of(whole)) ** 2;
        expect(lost).toBeLessThan(sumOfSquares(sizes.slice(rank)) / sumOfSquares(sizes) + 1e-6);
        expect(keptEnergy / energy).toBeCloseTo(sumOfSquares(sizes.slice(0, rank)) / sumOfSquares(sizes), 5);
        const coefficients = coefficientsOf(a, layer.a);
        // What rounding of the mixture can do; much where a few random rows are all but dependent.
        const [m, own, all] = [coefficients, a, layer.a].map((tensor) => rowsOf(tensor).norm('frobenius'));
        const rounding = (2 ** -22 * m! * all!) / own!;
        expect(outside(a, layer.a)).toBeLessThan(rounding);
        // As long as rows are drawn, whatever the sizes.
        for (const row of rowsOf(a).to2DArray()) expect(sumOfSquares(row)).toBeCloseTo(1 / 3, 5);
        expect(relativeError(of(combineRows(coefficients, layer.a)), of(a))).toBeLessThan(rounding);
      }),
      { numRuns: 200 },
    );
  });

  it('gives directions of no size a row of A that can still learn, and a zero column of B', () => {
    const untrained = layerOf({ seed: 3, out: 8, inDims: [12], rank: 5 });
    const { a, b, energy } = layerDirections({ ...untrained, b: floatTensor([8, 5]) }).cut(3, 1);
    expect(energy).toBe(0);
    expect([...b.data].every((value) => value === 0)).toBe(true);
    expect(smallestShare(new SVD(rowsOf(a), { autoTranspose: true }))).toBeGreaterThan(0.9);
    expect(outside(a, untrained.a)).toBeLessThan(1e-5);
  });
});

describe.each<[string, Partial<RunConfig>]>([
  ['uniform', {}],
  ['spectral', { allocation: 'spectral' }],
  ['alpha / r', { loraScaling: 'alpha', loraAlpha: 12 }],
  ['behind a full initiating stage', { initiatingMode: 'full' }],
  ['behind a full initiating stage, spectral', { initiatingMode: 'full', allocation: 'spectral' }],
  ['with a layer too small for r_max', { rMax: 10 }],
  ['with a rank of its own for one layer', { rankPattern: { 'body.conv': 3 } }],
])('a run with A fixed, %s', (_name, changes) => {
  const config = settings(changes);

  it('takes the exact mean of the products, cut to the next rank; what is not cut keeps its A', async () => {
    let cuts = 0;
    for await (const { round, before, sites, result } of runOf(config)) {
      if (planOf(config, round).mode !== 'lora') continue;
      expect(planOf(config, round)).toMatchObject({ trains: 'b', sends: 'b' });
      const total = sites.reduce((sum, { examples }) => sum + examples, 0);
      const mean = weightedSum(sites.map(({ examples, state }) => [examples / total, deltas(state)]));
      for (const [module, layer] of result.state.lora) {
        const own = before.lora.get(module)!;
        if (layer.r < own.r) cuts++;
        else {
          expect(layer.a).toEqual(own.a);
          const of = (tensor: FloatTensor) => new Map([[module, tensor]]);
          expect(relativeError(of(deltaWeight(layer)), of(mean.get(module)!))).toBeLessThan(1e-5);
        }
      }
      const lost = relativeError(deltas(result.state), mean) ** 2;
      expect(lost).toBeCloseTo(1 - result.energyKept, 4);
    }
    expect(cuts).toBeGreaterThan(3);
  });

  it('gives every layer the rank of the plan, or all together as many directions by their sizes', async () => {
    const drawn = new Map([...createRunState({ ...config, initiatingMode: 'lora' }, base).lora]);
    let uneven = 0;
    let last: ReadonlyMap<string, LoraLayer> | null = null;
    for await (const { round, result } of runOf(config)) {
      const { rank } = planOf(config, round + 1);
      if (rank === 0) continue;
      const of = layerRanks(config, rank);
      const planned = [...drawn].map(([module, { r }]) => [module, Math.min(of(module), r)] as const);
      const ranks = new Map([...result.state.lora].map(([module, { r }]) => [module, r]));
      if (config.allocation === 'uniform') expect(ranks).toEqual(new Map(planned));
      const sum = (values: Iterable<number>) => [...values].reduce((all, value) => all + value, 0);
      expect(sum(ranks.values())).toBe(sum(planned.map(([, r]) => r)));
      for (const [module, r] of ranks) expect(r).toBeLessThanOrEqual(last?.get(module)?.r ?? r);
      if (new Set(ranks.values()).size > 1) uneven++;
      last = result.state.lora;
    }
    if (config.allocation === 'spectral') expect(uneven).toBeGreaterThan(0);
  });

  it.each(['fp32', 'fp16', 'int8'] as const)('sends B, and how A is mixed, in %s', async (precision) => {
    const bound = { fp32: 1e-6, fp16: 2e-3, int8: 0.03 }[precision];
    const coded = { ...config, wire: { up: precision, down: precision, errorFeedback: false } };
    for await (const { round, result, file, arrived } of runOf(coded)) {
      const plan = planOf(coded, round + 1);
      if (plan.mode !== 'lora') continue;
      const names = [...parseSafetensors(file, 'global').entries.keys()];
      expect(names.filter((name) => name.endsWith('lora_A.weight'))).toEqual([]);
      const drawn = createRunState({ ...coded, initiatingMode: 'lora' }, base).lora;
      const mixed = [...arrived.lora.values()].filter(({ r, module }) => r < drawn.get(module)!.r);
      expect(names.filter((name) => name.endsWith('.mixing'))).toHaveLength(mixed.length);
      expect(relativeError(deltas(arrived), deltas(result.state))).toBeLessThan(bound);
      // A site that joins late has the settings as they were announced, and a start of its own.
      const announced = runConfigSchema.parse(JSON.parse(JSON.stringify(coded)));
      const context = { config: announced, plan, base, initial: createRunState(announced, base) };
      expect(statesEqual(decodeGlobalState(Uint8Array.from(file), 'global', context), arrived)).toBe(true);
      for (const [module, { r, a }] of arrived.lora) {
        const sent = result.state.lora.get(module)!.a;
        const of = (tensor: FloatTensor) => new Map([[module, tensor]]);
        if (r === drawn.get(module)!.r) expect(a).toEqual(drawn.get(module)!.a);
        else expect(relativeError(of(a), of(sent))).toBeLessThan(bound);
      }
    }
  });
});

it('an update holds B and the head alone; the rest is as the round started', async () => {
  const config = settings();
  for await (const { round, before, sites } of runOf(config)) {
    const context = { config, plan: planOf(config, round), base, start: before };
    const { bytes } = encodeUpdate({ ...context, trained: sites[0]!.state });
    const names = [...parseSafetensors(bytes, 'update').entries.keys()];
    expect(names.some((name) => name.includes('lora_A'))).toBe(false);
    expect(statesEqual(decodeUpdate(bytes, 'update', context), sites[0]!.state)).toBe(true);
  }
});

it('feeds back what rounding took from B until a cut changes its shape', async () => {
  const wire = { up: 'int8', down: 'fp32', errorFeedback: true } as const;
  const config = settings({ wire, shape: 'linear' });
  let residual: EncodedUpdate['residual'] = null;
  const fedBack: boolean[] = [];
  const cut: boolean[] = [];
  let rank = Number.POSITIVE_INFINITY;
  for await (const { round, before, sites } of runOf(config)) {
    const context = { config, plan: planOf(config, round), base, start: before };
    const encoded = (left: EncodedUpdate['residual']) =>
      encodeUpdate({ ...context, trained: sites[0]!.state, residual: left });
    const arrives = ({ bytes }: EncodedUpdate) =>
      decodeUpdate(Uint8Array.from(bytes), 'update', context).lora.get('body.q')!.b.data;
    const file = encoded(residual);
    const headOnly = new Map([...(residual ?? [])].filter(([name]) => !name.startsWith('lora.')));
    fedBack.push(
      Buffer.compare(Buffer.from(arrives(file).buffer), Buffer.from(arrives(encoded(headOnly)).buffer)) !== 0,
    );
    cut.push(context.plan.rank < rank);
    rank = context.plan.rank;
    residual = file.residual;
  }
  expect(fedBack).toEqual(cut.map((isCut) => !isCut));
  expect(new Set(fedBack).size).toBe(2);
});

it('takes updates that leave out layers without factors, as every check does', async () => {
  const config = settings({ initiatingMode: 'full' });
  const start = createRunState(config, base);
  const [first, ...others] = sitesOf(config, start, 0);
  const bare = { ...first!, state: { ...first!.state, lora: new Map() } };
  for (const [round, modes] of [0, 1].map((each) => [each, planOf(config, each).mode] as const)) {
    expect(modes).toBe('full');
    const whole = await aggregateOnce(config, base, round, start, [first!, ...others]);
    const without = await aggregateOnce(config, base, round, start, [bare, ...others]);
    expect(statesEqual(without.state, whole.state)).toBe(true);
  }
});

it('refuses a state whose rank no drawn rows can have, or that does not say how they are mixed', async () => {
  const config = settings({ rounds: 4 });
  const states: { file: Uint8Array; context: Parameters<typeof decodeGlobalState>[2] }[] = [];
  for await (const { round, file, initial } of runOf(config))
    states.push({ file, context: { config, plan: planOf(config, round + 1), base, initial } });
  const { file, context } = states.at(-1)!;
  const { entries, metadata, bytesOf } = parseSafetensors(file, 'global');
  const rewritten = (change: Record<string, string>, keep: (name: string) => boolean) =>
    encodeRawSafetensors(
      [...entries]
        .filter(([name]) => keep(name))
        .map(([name, entry]) => ({ name, dims: entry.dims, bytes: bytesOf(entry) })),
      { ...metadata, ...change },
    );
  const bare = rewritten({}, (name) => !name.endsWith('body.q.lora_A.mixing'));
  expect(() => decodeGlobalState(bare, 'global', context)).toThrow(/body\.q\.lora_A\.mixing" is missing/);
  const lora = JSON.parse(metadata!['lora']!) as Record<string, { r: number }>;
  lora['body.q']!.r = 7;
  const high = rewritten({ lora: JSON.stringify(lora) }, () => true);
  expect(() => decodeGlobalState(high, 'global', context)).toThrow(/"body\.q" has rank 7/);
  const rows = context.initial.lora.get('body.q')!.a;
  const huge = encodeRawSafetensors(
    [...entries].map(([name, entry]) => {
      const bytes = Uint8Array.from(bytesOf(entry));
      if (name === 'lora.body.q.lora_A.mixing') {
        const values = new Float32Array(bytes.buffer);
        values.forEach((_, i) => {
          values[i] = 3.4e38 * Math.sign(rows.data[(i % rows.dims[0]!) * 12]!);
        });
      }
      return { name, dims: entry.dims, bytes };
    }),
    metadata!,
  );
  expect(() => decodeGlobalState(huge, 'global', context)).toThrow(
    expect.objectContaining({ code: 'MODEL_FILE_INVALID' }),
  );
  expect(tensorsOf(decodeGlobalState(file, 'global', context)).has(nameOfA('body.q'))).toBe(true);
});
