/** What the paper's table compares, and on what: data sets, methods, grids of rates, sizes. */
import type { StrategyName } from '../../../core/config/setting.ts';

export const dataSetNames = ['cifar10', 'olivetti'] as const;
export type DataSetName = (typeof dataSetNames)[number];

/** The one learning rate that the search chooses for a method: that of what the method trains beside the head. */
export type TunedRate = 'learningRate' | 'headLearningRate' | 'baseLearningRate';

export interface Method {
  /** Its name in the table. */
  readonly name: string;
  readonly strategy: StrategyName;
  readonly tunes: TunedRate;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Takes the rate that the search chose for this other method, from which it differs in one setting only. */
  readonly follows?: string;
  /** By which the grid's rates are multiplied, where a method trains so much less that the others' suit it badly. */
  readonly ratesTimes?: number;
}

export interface DataSet {
  readonly name: DataSetName;
  readonly title: string;
  /** Relative to the folder of data and models; without them nothing can run. */
  readonly needs: readonly string[];
  /** Parts of an experiment file (docs/simulation.md), with paths relative to the folder of data and models. */
  readonly data: {
    readonly images: string;
    readonly labels: string;
    readonly maxClasses?: number;
    readonly maxPerClass: { readonly train?: number; readonly test?: number };
  };
  readonly base: { readonly id: string; readonly path?: string } & Readonly<Record<string, unknown>>;
  readonly validationShare: number;
  /** At most so many validation images of each class in the search. */
  readonly validationPerClass?: number;
  readonly settings: Readonly<Record<string, unknown>> & {
    readonly training: Readonly<Record<string, unknown>>;
  };
  /** Settings of the search that differ: shorter runs. */
  readonly searchSettings: Readonly<Record<string, unknown>>;
  readonly rates: Readonly<Record<TunedRate, readonly number[]>>;
  readonly methods: readonly Method[];
}

export interface Plan {
  readonly size: 'standard' | 'full' | 'tiny';
  readonly sites: number;
  readonly alpha: number;
  /** Of the runs in the table. */
  readonly seeds: readonly number[];
  /** Of the search; none of those in the table. */
  readonly searchSeed: number;
  readonly dataSets: readonly DataSet[];
}

/** λ of sa-fedlora's initiating stage and μ of fedprox-full; the second row of sa-fedlora has none. */
const pull = 0.1;

/** Hospitals of three sizes: the highest rank that each affords. */
const siteRanks = Object.fromEntries(
  [8, 8, 8, 6, 6, 6, 4, 4, 2, 2].map((rank, site) => [`site-${String(site + 1).padStart(2, '0')}`, rank]),
);

const lora = (strategy: StrategyName, settings: Record<string, unknown> = {}): Method => ({
  ...{ name: strategy, strategy, tunes: 'learningRate', settings },
});
const whole = (strategy: StrategyName, settings: Record<string, unknown> = {}): Method => ({
  ...{ name: strategy, strategy, tunes: 'baseLearningRate', settings },
});

/** What a falling rank cuts off is dropped, as in the paper and by default. */
const annealing = { proximal: pull, cutOff: 'drop' };

export const saFedLora = 'sa-fedlora';
export const saFedLoraWithoutPull = 'sa-fedlora, λ = 0';
export const saFedLoraFixedA = 'sa-fedlora, A fixed';

const methods: readonly Method[] = [
  { name: 'head-only', strategy: 'head-only', tunes: 'headLearningRate', settings: {} },
  whole('fedavg-full'),
  { ...whole('fedprox-full', { proximal: pull }), follows: 'fedavg-full' },
  lora('fedavg-lora'),
  // With A fixed only half of the factors move.
  { ...lora('ffa-lora'), ratesTimes: 4 },
  lora('fedsa-lora'),
  lora('flora-stack'),
  lora('flexlora'),
  lora('hetlora', { siteRanks }),
  lora('sa-fedlora', annealing),
  // The same with one setting changed, at the same rate.
  { ...lora('sa-fedlora', { ...annealing, proximal: 0 }), name: saFedLoraWithoutPull, follows: saFedLora },
  // What annealing makes of ffa-lora; with the same grid.
  { ...lora('sa-fedlora', { ...annealing, freezeA: true }), name: saFedLoraFixedA, ratesTimes: 4 },
];

const annealed = (name: string, settings: Record<string, unknown>): Method => ({
  ...lora('sa-fedlora', { ...annealing, ...settings }),
  name: `sa-fedlora, ${name}`,
});

/** With --full. */
const moreMethods: readonly Method[] = [
  annealed('freezing', { cutOff: 'freeze' }),
  annealed('linear', { shape: 'linear' }),
  annealed('cosine', { shape: 'cosine' }),
  annealed('spectral', { allocation: 'spectral' }),
  annealed('initiating full', { initiatingMode: 'full' }),
  annealed('initiating last-k', { initiatingMode: 'last-k', lastK: 2 }),
];

/** The same for all methods on both data sets. */
const common = {
  rMax: 8,
  rMin: 2,
  initiatingMode: 'lora',
  initiatingRounds: 2,
  heatingRounds: 0,
  coolingRounds: 1,
  shape: 'cubic',
  // s = alpha / r, PEFT's own: 2 at r_max. Lower ranks take larger steps; ΔW does not change with the scale.
  loraScaling: 'alpha',
  loraAlpha: 16,
  // Sites differ much: steps that grow smaller from round to round let the last rounds settle.
  finalLearningRateShare: 0.1,
};
/** A site has four to eight steps a round, too few to spend one on warming up. */
const training = { epochs: 1, batchSize: 4, warmupShare: 0, augment: false };
/** None: shorter runs did not see differences that the table's own rounds do. */
const searchSettings = {};

const cifar10: DataSet = {
  name: 'cifar10',
  title: 'CIFAR-10, ViT-Tiny',
  needs: ['data/cifar10/images', 'data/cifar10/labels.csv', 'models/vit-tiny-patch16-224/model.safetensors'],
  data: {
    images: 'data/cifar10/images',
    labels: 'data/cifar10/labels.csv',
    maxPerClass: { train: 15, test: 15 },
  },
  base: {
    path: 'models/vit-tiny-patch16-224',
    id: 'vit-tiny-96',
    imageSize: 96,
    mean: [0.5, 0.5, 0.5],
    deviation: [0.5, 0.5, 0.5],
  },
  validationShare: 0.2,
  validationPerClass: 15,
  settings: {
    ...common,
    rounds: 6,
    training: { ...training, headLearningRate: 2e-2 },
  },
  searchSettings,
  rates: {
    learningRate: [5e-3, 1e-2],
    headLearningRate: [2e-2, 5e-2],
    baseLearningRate: [1e-4, 3e-4],
  },
  methods,
};

const olivetti: DataSet = {
  name: 'olivetti',
  title: 'AT&T (Olivetti) faces, face-resnet-128',
  needs: ['data/olivetti/images', 'data/olivetti/labels.csv'],
  data: {
    images: 'data/olivetti/images',
    labels: 'data/olivetti/labels.csv',
    maxClasses: 30,
    maxPerClass: { train: 3 },
  },
  base: { id: 'face-resnet-128' },
  validationShare: 0.28,
  settings: {
    ...common,
    rounds: 6,
    // Thirty people and three images of each: with one epoch a round not even the head alone comes far.
    training: { ...training, epochs: 2, headLearningRate: 3e-1 },
  },
  searchSettings,
  rates: {
    learningRate: [5e-4, 1e-3],
    headLearningRate: [1e-1, 3e-1],
    baseLearningRate: [5e-5, 1e-4],
  },
  methods,
};

const sites = { sites: 10, alpha: 0.5, searchSeed: 101 };
const countFrom1 = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

/** Sized for 40 minutes on two processor cores (docs/results-discussion.md). */
export function standardPlan(seeds = 3): Plan {
  return { size: 'standard', ...sites, seeds: countFrom1(seeds), dataSets: [cifar10, olivetti] };
}

/** More images, rounds, seeds and variants of sa-fedlora; hours. */
export function fullPlan(seeds = 5): Plan {
  const longer = (dataSet: DataSet, maxPerClass: DataSet['data']['maxPerClass']): DataSet => ({
    ...dataSet,
    data: { images: dataSet.data.images, labels: dataSet.data.labels, maxPerClass },
    settings: { ...dataSet.settings, rounds: 20, heatingRounds: 2, coolingRounds: 3 },
    searchSettings: { rounds: 8, initiatingRounds: 1, heatingRounds: 1, coolingRounds: 1 },
    methods: [...methods, ...moreMethods],
  });
  const dataSets = [longer(cifar10, { train: 200, test: 100 }), longer(olivetti, {})];
  return { size: 'full', ...sites, seeds: countFrom1(seeds), dataSets };
}
