/** Sizes of what travels in a run, from the shapes of the base model and the settings. */
import type { RunConfig } from '../config/run-config.ts';
import { loraDims } from '../lora/inject.ts';
import { countParameters, type StateShape } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { resolveTargetModules } from '../models/target-modules.ts';
import { trainableWeights } from '../models/trainable-weights.ts';
import { elementCount } from '../shared/tensor.ts';
import { layerRanks, layerScales } from './lora-settings.ts';
import { getStrategy } from './registry.ts';
import type { RoundPlan } from './strategy.ts';
import { trainedParts } from './what-travels.ts';
import { fileSizeBytes, fileValueCount, frozenBaseForm, globalForm, updateForm } from './wire/wire.ts';
import type { FileForm } from './wire/wire-context.ts';

export interface TransferSize {
  /** Model values. */
  parameters: number;
  bytes: number;
}

/** What goes under the global state when a round closes. */
export interface FrozenBasePart {
  /** Base weights that it replaces. */
  weights: readonly string[];
  /** The round's rank, of which its layers are made; 0 when it has none. */
  rank: number;
  /** How: the sites' factors on top of each other, or the directions that a falling rank has frozen. */
  layers?: { stacked: StackedSites } | { beyond: number };
}

interface StackedSites {
  /** Highest rank of each site; infinite where it takes the round's. */
  siteRanks: readonly number[];
  /** Share of these sites that take part. */
  share: number;
}

export interface StateShapes {
  /** Names and shapes of a state in a round of this rank; `own`: the highest rank of a site that has one. */
  shapeOf(rank: number, weights: readonly string[], own?: number): StateShape;
  /** Names of the base weights that a round trains. */
  trainedWeights(plan: RoundPlan): readonly string[];
  /** Values that a site trains. */
  trainable(plan: RoundPlan, weights: readonly string[]): number;
  /** @param rank of the site */
  update(plan: RoundPlan, weights: readonly string[], rank: number): TransferSize;
  /** @param weights base weights that are part of the state */
  globalState(plan: RoundPlan, weights: readonly string[]): TransferSize;
  frozenBaseDelta(part: FrozenBasePart): TransferSize;
}

/**
 * Most rounds of a run ask for a size that was measured before.
 * @throws AppError CONFIG_INVALID for an unknown preset of modules
 */
export function createStateShapes(config: RunConfig, base: BaseModel): StateShapes {
  const layers = getStrategy(config.strategy).adaptsLayers
    ? resolveTargetModules(base, config.targetModules, config.excludeModules)
    : [];
  const scaleOf = layerScales(config);
  const known = new Map<string, TransferSize>();
  /** Weights of one run are all, those of the last blocks, or none: their number tells which. */
  function remembered(key: readonly unknown[], measure: () => TransferSize): TransferSize {
    const text = JSON.stringify(key);
    const size = known.get(text) ?? measure();
    known.set(text, size);
    return size;
  }

  interface Variant {
    /** Highest rank of the site. */
    own?: number;
    /** Factors of several sites on top of each other, with a scale of 1. */
    stacked?: StackedSites;
    /** Directions beyond this round rank, with a scale of 1. */
    beyond?: number;
  }

  function shapeOf(rank: number, weights: readonly string[], variant: Variant = {}): StateShape {
    const { own = Number.POSITIVE_INFINITY, stacked, beyond = 0 } = variant;
    const rankOf = layerRanks(config, rank);
    const innerRankOf = layerRanks(config, beyond);
    const lora = layers.map((layer) => {
      const { module, weightDims } = layer;
      const [out = 0, ...inDims] = weightDims;
      const limit = Math.min(out, elementCount(inDims));
      const whole = Math.min(rankOf(module), limit);
      const inner = Math.min(innerRankOf(module), limit);
      const r = Math.min(stacked === undefined ? own : limit, stackedRank(whole, stacked)) - inner;
      const scale = stacked === undefined && beyond === 0 ? scaleOf(module, whole) : 1;
      const { a, b } = loraDims(layer, r);
      return [module, { module, r, scale, a: { dims: a }, b: { dims: b } }] as const;
    });
    return {
      baseSha256: config.baseSha256,
      classes: config.classes,
      lora: new Map(lora),
      head: new Map([
        ['weight', { dims: [config.classes.length, base.embeddingSize] }],
        ['bias', { dims: [config.classes.length] }],
      ]),
      base: new Map(weights.map((name) => [name, base.weights.get(name)!])),
    };
  }

  const measured = (shape: StateShape, form: FileForm): TransferSize => ({
    parameters: fileValueCount(shape, form),
    bytes: fileSizeBytes(shape, form),
  });

  return {
    shapeOf: (rank, weights, own) => shapeOf(rank, weights, own === undefined ? {} : { own }),
    trainedWeights: ({ mode }) => trainableWeights(base, mode, config.lastK),
    trainable: (plan, weights) => countParameters(shapeOf(plan.rank, weights), trainedParts(plan)),
    update: (plan, weights, own) =>
      remembered(['up', plan.rank, plan.sends, own, weights.length], () =>
        measured(shapeOf(plan.rank, weights, { own }), updateForm({ config, plan })),
      ),
    globalState: (plan, weights) =>
      remembered(['down', plan.rank, plan.sends, weights.length], () =>
        measured(shapeOf(plan.rank, weights), globalForm({ config, plan })),
      ),
    frozenBaseDelta: ({ weights, rank, layers: made }) =>
      remembered(['frozenBaseDelta', rank, made, weights.length], () => {
        const whole = shapeOf(rank, weights, made);
        // A layer of a rank pattern may keep its rank where others lose some.
        const lora = new Map([...whole.lora].filter(([, { r }]) => r > 0));
        if (lora.size === 0 && weights.length === 0) return { parameters: 0, bytes: 0 };
        return measured({ ...whole, lora }, frozenBaseForm({ config }));
      }),
  };
}

/** Sum of the sites' ranks in a layer that has `whole` in the global state; that rank itself without a stack. */
function stackedRank(whole: number, stacked: StackedSites | undefined): number {
  if (stacked === undefined) return whole;
  const sum = stacked.siteRanks.reduce((total, own) => total + Math.min(own, whole), 0);
  return Math.round(stacked.share * sum);
}

/**
 * What becomes part of the base model when a round closes, and which base weights the next global state holds: the
 * shapes of what the strategies' `aggregateTrain` gives.
 */
export function frozenBaseAfter(
  config: RunConfig,
  round: {
    plan: RoundPlan;
    next: RoundPlan;
    replaced: readonly string[];
    participants: number;
    /** Highest rank of each site. */
    siteRanks: readonly number[];
  },
): { part: FrozenBasePart | null; replaced: readonly string[] } {
  const { plan, next, replaced, participants, siteRanks } = round;
  switch (getStrategy(config.strategy).frozenAfter(config, plan, next)) {
    case 'stacked factors': {
      const stacked = { siteRanks, share: participants / siteRanks.length };
      return { part: { weights: [], rank: plan.rank, layers: { stacked } }, replaced };
    }
    case 'base weights':
      return { part: { weights: replaced, rank: 0 }, replaced: [] };
    case 'cut directions':
      return { part: { weights: [], rank: plan.rank, layers: { beyond: next.rank } }, replaced };
    default:
      return { part: null, replaced };
  }
}
