/** Sizes of what travels in a run, from the shapes of the base model and the settings. */

import type { RunConfig } from '../config/run-config.ts';
import { loraDims } from '../lora/inject.ts';
import type { StateShape } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { trainableWeights } from '../models/trainable-weights.ts';
import { elementCount } from '../shared/tensor.ts';
import { adaptedLayers, layerRanks, layerScales } from './lora-settings.ts';
import { getStrategy } from './registry.ts';
import type { RoundPlan } from './strategy.ts';
import {
  frozenBaseSizeBytes,
  frozenBaseValueCount,
  globalStateSizeBytes,
  globalStateValueCount,
  updateSizeBytes,
  updateValueCount,
} from './wire/wire.ts';

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
  const layers = getStrategy(config.strategy).adaptsLayers ? adaptedLayers(config, base) : [];
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
    return {
      baseSha256: config.baseSha256,
      classes: config.classes,
      lora: layers.map((layer) => {
        const [out = 0, ...inDims] = layer.weightDims;
        const limit = Math.min(out, elementCount(inDims));
        const whole = Math.min(rankOf(layer.module), limit);
        const inner = Math.min(innerRankOf(layer.module), limit);
        const r = Math.min(stacked === undefined ? own : limit, stackedRank(whole, stacked)) - inner;
        const scale = stacked === undefined && beyond === 0 ? scaleOf(layer.module, whole) : 1;
        const { a, b } = loraDims(layer, r);
        return { module: layer.module, r, scale, aDims: a, bDims: b };
      }),
      head: [
        { name: 'weight', dims: [config.classes.length, base.embeddingSize] },
        { name: 'bias', dims: [config.classes.length] },
      ],
      base: weights.map((name) => ({ name, dims: base.weights.get(name)!.dims })),
    };
  }

  return {
    trainedWeights: ({ mode }) => trainableWeights(base, mode, config.lastK),
    trainable({ rank, trains }, weights) {
      // All that would travel if what trains were what is sent.
      const context = { config: { ...config, localHead: false }, plan: { sends: trains } };
      return updateValueCount(shapeOf(rank, weights), context);
    },
    update: (plan, weights, own) =>
      remembered(['up', plan.rank, plan.sends, own, weights.length], () => {
        const shape = shapeOf(plan.rank, weights, { own });
        const context = { config, plan };
        return { parameters: updateValueCount(shape, context), bytes: updateSizeBytes(shape, context) };
      }),
    globalState: (plan, weights) =>
      remembered(['down', plan.rank, plan.sends, weights.length], () => {
        const shape = shapeOf(plan.rank, weights);
        const context = { config, plan };
        return {
          parameters: globalStateValueCount(shape, context),
          bytes: globalStateSizeBytes(shape, context),
        };
      }),
    frozenBaseDelta: ({ weights, rank, layers: made }) =>
      remembered(['frozenBaseDelta', rank, made, weights.length], () => {
        const whole = shapeOf(rank, weights, made);
        // A layer of a rank pattern may keep its rank where others lose some.
        const shape = { ...whole, lora: whole.lora.filter(({ r }) => r > 0) };
        return { parameters: frozenBaseValueCount(shape), bytes: frozenBaseSizeBytes(shape, { config }) };
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
  if (config.strategy === 'flora-stack') {
    const stacked = { siteRanks, share: participants / siteRanks.length };
    return { part: { weights: [], rank: plan.rank, layers: { stacked } }, replaced };
  }
  // The last averaged base weights of an initiating stage: fetched once, then under every later state.
  if (config.strategy === 'sa-fedlora' && plan.mode !== 'lora' && next.mode === 'lora')
    return { part: { weights: replaced, rank: 0 }, replaced: [] };
  if (config.strategy === 'sa-fedlora' && config.cutOff === 'freeze' && next.rank < plan.rank)
    return { part: { weights: [], rank: plan.rank, layers: { beyond: next.rank } }, replaced };
  return { part: null, replaced };
}
