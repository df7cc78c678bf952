/**
 * What an honest run sends fits its contract, in every round of every strategy and precision; what it does not say is
 * refused on its way in, and withheld on its way out.
 */
import { describe, expect, it } from 'vitest';
import type { WirePrecision } from '../../core/config/round-options.ts';
import type { RunConfig } from '../../core/config/run-config.ts';
import type { LoraLayer, ModelState } from '../../core/lora/model-state.ts';
import { trainableWeights } from '../../core/models/trainable-weights.ts';
import { createArrivals } from '../../core/policy/arrivals.ts';
import { contractOf, contractSchema } from '../../core/policy/contract.ts';
import { createLeaves } from '../../core/policy/leaves.ts';
import { checkOutgoing } from '../../core/policy/outgoing.ts';
import { createRandom } from '../../core/shared/random.ts';
import { floatTensor } from '../../core/shared/tensor.ts';
import { getStrategy } from '../../core/strategy/registry.ts';
import { createRunState } from '../../core/strategy/run-state.ts';
import { siteStart } from '../../core/strategy/site-rank.ts';
import type { ServerMemory } from '../../core/strategy/strategy.ts';
import {
  decodeFrozenBase,
  decodeGlobalState,
  decodeUpdate,
  encodeFrozenBase,
  encodeGlobalState,
  encodeUpdate,
} from '../../core/strategy/wire/wire.ts';
import { askedBy } from '../fixtures/manifests.ts';
import { randomLayer, shapeOnlyBase, trainedState } from '../fixtures/random-state.ts';
import { aggregateOnce, runSettings } from '../fixtures/strategy-rounds.ts';
import { plain, type Variant, withOptions } from '../fixtures/strategy-variants.ts';

const base = shapeOnlyBase();
const sites = ['site-1', 'site-2', 'site-3', 'site-4', 'site-5'];

interface Sent {
  round: number;
  state: Uint8Array;
  frozen: readonly Uint8Array[];
  updates: readonly Uint8Array[];
}

/** All files of a run, round by round; behind the last round its final state without updates. */
async function filesOf(config: RunConfig): Promise<Sent[]> {
  const strategy = getStrategy(config.strategy);
  const planOf = (round: number) => strategy.configureTrain(config, Math.min(round, config.rounds - 1));
  const initial = createRunState(config, base);
  const sent: Sent[] = [];
  const frozen: Uint8Array[] = [];
  let memory: ServerMemory | null = null;
  let bytes = encodeGlobalState(initial, { config, plan: planOf(0), base });
  for (let round = 0; round < config.rounds; round++) {
    const context = { config, plan: planOf(round), base };
    const global = decodeGlobalState(bytes, 'state', { ...context, initial });
    const baseNames = trainableWeights(base, context.plan.mode, config.lastK);
    const files = sites.map((site, index) => {
      const start = siteStart(config, site, global);
      const trained = trainedState(start, 10 * round + index, { base, baseNames });
      return { site, start, file: encodeUpdate({ ...context, start, trained }).bytes };
    });
    sent.push({ round, state: bytes, frozen: [...frozen], updates: files.map(({ file }) => file) });
    const updates = files.map(({ site, start, file }, index) => ({
      ...{ siteId: site, examples: 10 * (index + 1) },
      state: decodeUpdate(file, 'update', { ...context, start }),
    }));
    const result = await aggregateOnce(config, base, round, global, updates, { memory });
    const next = { config, plan: planOf(round + 1), base };
    memory = result.memory;
    bytes = encodeGlobalState(result.state, next);
    if (result.frozenBaseDelta !== null) frozen.push(encodeFrozenBase(result.frozenBaseDelta, next));
  }
  return [...sent, { round: config.rounds, state: bytes, frozen, updates: [] }];
}

/** As core/site/round-state.ts asks of what comes, and core/site/round-worker.ts of what leaves. */
function expectWithin(config: RunConfig, sent: readonly Sent[]): void {
  const initial = createRunState(config, base);
  const arrivals = createArrivals(config, base, initial);
  const leaves = createLeaves(config, base);
  const strategy = getStrategy(config.strategy);
  for (const { round, state, frozen, updates } of sent) {
    const plan = strategy.configureTrain(config, Math.min(round, config.rounds - 1));
    expect(state.length, `state ${round}`).toBeLessThanOrEqual(arrivals.stateBytes(round));
    arrivals.checkState(decodeGlobalState(state, 'state', { config, plan, base, initial }), round);
    const parts = arrivals.frozenParts(round);
    expect(frozen.length, `parts of ${round}`).toBeLessThanOrEqual(parts.count);
    for (const part of frozen) {
      expect(part.length, `part of ${round}`).toBeLessThanOrEqual(parts.bytes);
      arrivals.checkFrozenPart(decodeFrozenBase(part, 'part', { config, base, initial }), round);
    }
    for (const update of updates) checkOutgoing(update, leaves.ofRound(round), config.wire.up);
  }
}

const precisions: [string, WirePrecision, WirePrecision][] = [
  ['exact', 'fp32', 'fp32'],
  ['half', 'fp16', 'fp16'],
  ['coarse', 'int8', 'int8'],
  ['coarse up only', 'int8', 'fp32'],
];
const narrow: [string, Variant][] = [
  ['sa-fedlora on one layer', { strategy: 'sa-fedlora', targetModules: ['body.q'] }],
  ['flora-stack with ranks of sites', { strategy: 'flora-stack', siteRanks: { 'site-1': 2, 'site-2': 1 } }],
  ['hetlora with ranks of sites', { strategy: 'hetlora', siteRanks: { 'site-1': 2 } }],
  [
    'sa-fedlora with ranks of layers',
    { strategy: 'sa-fedlora', rankPattern: { 'body.q': 9, 'stem.conv': 1 } },
  ],
  [
    'sa-fedlora, spectral with ranks of layers, freezing',
    { strategy: 'sa-fedlora', allocation: 'spectral', cutOff: 'freeze', rankPattern: { 'body.q': 3 } },
  ],
  ['sa-fedlora scaled by rank', { strategy: 'sa-fedlora', loraScaling: 'rslora', loraAlpha: 8 }],
  [
    'sa-fedlora, freezing after an initiating stage of all weights',
    {
      strategy: 'sa-fedlora',
      initiatingMode: 'full',
      cutOff: 'freeze',
      allocation: 'spectral',
      shape: 'linear',
    },
  ],
];

describe.each([...plain, ...withOptions, ...narrow])('an honest run of %s', (_name, changes) => {
  it.each(precisions)('sends what its contract says, %s numbers', async (_words, up, down) => {
    const config = runSettings(base, { ...changes, wire: { up, down, errorFeedback: false } });

    expectWithin(config, await filesOf(config));
  });

  it('has a contract that its own schema takes, with the sizes of its files', async () => {
    const config = runSettings(base, changes);
    const { leaves } = contractOf(config, base, askedBy);
    const sent = await filesOf(config);

    expect(contractSchema.shape.leaves.parse(leaves)).toEqual(leaves);
    expect(leaves.rounds[0]!.from).toBe(0);
    expect(leaves.rounds.at(-1)!.to).toBe(config.rounds - 1);
    const largest = leaves.rounds.flatMap(({ from, to, bytes }) =>
      Array.from({ length: to - from + 1 }, () => bytes),
    );
    for (const { round, updates } of sent)
      for (const update of updates) {
        expect(update.length).toBeLessThanOrEqual(largest[round]! + 1024);
        // Spread ranks may need less than their largest shapes; a site of a lower rank does.
        if (config.allocation === 'uniform' && Object.keys(config.siteRanks).length === 0)
          expect(update.length).toBeGreaterThan(0.9 * largest[round]! - 1024);
      }
  });
});

describe('a shared model that says more than its contract is refused', () => {
  const config = runSettings(base, {
    strategy: 'sa-fedlora',
    targetModules: ['body.q'],
    allocation: 'uniform',
  });
  const initial = createRunState(config, base);
  const arrivals = createArrivals(config, base, initial);
  const whole = createRunState(runSettings(base, { targetModules: 'all' }), base);
  const layer = initial.lora.get('body.q')!;
  const withLayer = (one: LoraLayer): ModelState => ({ ...initial, lora: new Map([[one.module, one]]) });
  const random = createRandom(1);

  it.each<[string, ModelState, RegExp]>([
    ['more layers', { ...initial, lora: whole.lora }, /"stem\.conv|"lora\.stem|nobody asked for/],
    [
      'a base weight',
      { ...initial, base: new Map([['body.q.weight', base.weights.get('body.q.weight')!]]) },
      /"base\.body\.q\.weight", which nobody asked for/,
    ],
    ['no layer', { ...initial, lora: new Map() }, /"body\.q" is missing/],
    [
      'a higher rank',
      withLayer({ ...randomLayer('body.q', [20, 12], 7, layer.scale, random) }),
      /rank 7; the contract says 6/,
    ],
    ['another scale', withLayer({ ...layer, scale: 100 }), /scale 100; the contract says/],
    ['another shape', withLayer({ ...layer, a: floatTensor([layer.r, 13]) }), /wrong shape/],
    ['no classifier', { ...initial, head: new Map() }, /classifier/],
    [
      'a larger classifier',
      { ...initial, head: new Map([...initial.head].map(([name]) => [name, floatTensor([9, 20])])) },
      /wrong shape/,
    ],
    [
      'what is no number',
      { ...initial, head: new Map(initial.head).set('bias', floatTensor([3], Float32Array.of(0, NaN, 0))) },
      /not finite/,
    ],
  ])('%s', (_what, state, message) => {
    expect(() => arrivals.checkState(state, 0)).toThrow(
      expect.objectContaining({ code: 'CONTRACT_BROKEN', message: expect.stringMatching(message) }),
    );
    expect(() => arrivals.checkState(initial, 0)).not.toThrow();
  });

  it('more directions in all than a round has, wherever they are', () => {
    const spread = runSettings(base, {
      strategy: 'sa-fedlora',
      allocation: 'spectral',
      rMax: 4,
      initiatingRounds: 0,
    });
    const start = createRunState(spread, base);
    const own = createArrivals(spread, base, start);
    const moved = (...ranks: number[]): ModelState => {
      const layers = [...start.lora.values()].map(({ module, scale }, index) => {
        const { weightDims } = base.layers.find((each) => each.module === module)!;
        return [module, randomLayer(module, weightDims, ranks[index]!, scale, random)] as const;
      });
      return { ...start, lora: new Map(layers) };
    };

    expect(() => own.checkState(moved(4, 4, 4), 0)).not.toThrow();
    expect(() => own.checkState(moved(3, 4, 4), 0)).not.toThrow();
    expect(() => own.checkState(moved(4, 4, 5), 0)).toThrow(/rank 5|13 directions/);
  });

  it('ranks of an earlier round, when they have fallen', () => {
    const last = config.rounds;

    expect(() => arrivals.checkState(initial, last)).toThrow(/rank 6; the contract says 2/);
  });
});

describe('what lies under the shared model is refused', () => {
  const part = (change: Partial<ModelState>): ModelState => ({
    ...{
      baseSha256: base.sha256,
      classes: ['a', 'b', 'c'],
      lora: new Map(),
      head: new Map(),
      base: new Map(),
    },
    ...change,
  });
  const weight = new Map([['body.q.weight', base.weights.get('body.q.weight')!]]);
  const arrivalsOf = (changes: Variant) => {
    const config = runSettings(base, changes);
    return { arrivals: createArrivals(config, base, createRunState(config, base)), rounds: config.rounds };
  };

  it('at all, in a run that puts nothing there', () => {
    const { arrivals, rounds } = arrivalsOf({ strategy: 'sa-fedlora' });

    expect(arrivals.frozenParts(rounds).count).toBe(0);
    expect(() => arrivals.checkFrozenPart(part({ base: weight }), rounds)).toThrow(/nobody asked for/);
  });

  it('in the first round of any run', () => {
    for (const [, changes] of [...plain, ...narrow])
      expect(arrivalsOf(changes).arrivals.frozenParts(0).count).toBe(0);
  });

  it('when it holds a classifier, other layers, or base weights of a run that trains none', () => {
    const { arrivals, rounds } = arrivalsOf({
      strategy: 'sa-fedlora',
      cutOff: 'freeze',
      targetModules: ['body.q'],
    });
    const random = createRandom(2);
    const layer = (module: string, dims: number[]) =>
      part({ lora: new Map([[module, randomLayer(module, dims, 2, 2, random)]]) });

    expect(() => arrivals.checkFrozenPart(layer('body.q', [20, 12]), rounds)).not.toThrow();
    for (const bad of [
      part({ head: new Map([['bias', floatTensor([3])]]) }),
      layer('stem.conv', [8, 3, 3, 3]),
      layer('other', [4, 4]),
      layer('body.q', [20, 13]),
      part({ base: weight }),
    ])
      expect(() => arrivals.checkFrozenPart(bad, rounds)).toThrow(
        expect.objectContaining({ code: 'CONTRACT_BROKEN' }),
      );
  });
});

describe('an update that holds more than its contract lists is withheld', () => {
  const config = runSettings(base, { strategy: 'sa-fedlora', rMax: 4 });
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  const start = createRunState(config, base);
  const round = createLeaves(config, base).ofRound(0);
  const fileOf = (of: RunConfig, from = createRunState(of, base)) => {
    const own = getStrategy(of.strategy).configureTrain(of, 0);
    const baseNames = trainableWeights(base, own.mode, of.lastK);
    const trained = trainedState(from, 1, { base, baseNames });
    return encodeUpdate({ config: of, plan: own, base, start: from, trained }).bytes;
  };
  const other = (changes: Variant) => fileOf(runSettings(base, { rMax: 4, ...changes }));

  it.each<[string, () => Uint8Array, RegExp]>([
    ['all weights', () => other({ strategy: 'fedavg-full' }), /contract/],
    ['a higher rank', () => other({ strategy: 'sa-fedlora', rMax: 5 }), /larger than the contract says/],
    [
      'finer numbers',
      () => other({ strategy: 'sa-fedlora', wire: { up: 'fp32', down: 'fp32', errorFeedback: false } }),
      /numbers of type F32/,
    ],
  ])('%s', (what, bytes, message) => {
    const precision = what === 'finer numbers' ? 'fp16' : 'fp32';
    expect(() => checkOutgoing(bytes(), round, precision)).toThrow(
      expect.objectContaining({
        code: 'CONTRACT_BROKEN',
        message: expect.stringMatching(message),
        action: expect.stringMatching(/Nothing left/),
      }),
    );
  });

  it('both factors where one was promised, and a head that stays', () => {
    const [ffa, kept] = [
      runSettings(base, { strategy: 'ffa-lora', rMax: 4 }),
      runSettings(base, { strategy: 'sa-fedlora', rMax: 4, localHead: true }),
    ];

    expect(() => checkOutgoing(fileOf(config), createLeaves(ffa, base).ofRound(0), 'fp32')).toThrow(
      /contract/,
    );
    expect(() => checkOutgoing(fileOf(config), createLeaves(kept, base).ofRound(0), 'fp32')).toThrow(
      /"head\.(weight|bias)", which the contract does not list/,
    );
    expect(() => checkOutgoing(fileOf(config), round, 'fp32')).not.toThrow();
    expect(plan.sends).toBe('both');
    expect(start.head.size).toBe(2);
  });

  it('bytes that are no such file, or have something behind it', () => {
    const file = fileOf(config);
    const longer = Buffer.concat([file, new Uint8Array(100)]);

    expect(() => checkOutgoing(new TextEncoder().encode('a photograph'), round, 'fp32')).toThrow();
    expect(() => checkOutgoing(longer, round, 'fp32')).toThrow();
    expect(() => checkOutgoing(Buffer.concat([file, new Uint8Array(100_000)]), round, 'fp32')).toThrow(
      /bytes; the contract says/,
    );
  });
});
