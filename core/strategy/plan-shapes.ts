/** Sizes of what travels in a run, from the shapes of the base model and the settings. */
import { trainableWeights } from '../engine/trainable-weights.ts';
import { loraDims } from '../lora/inject.ts';
import type { StateShape } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { elementCount } from '../shared/tensor.ts';
import { adaptedLayers, layerRanks, layerScales } from './lora-settings.ts';
import { getStrategy } from './registry.ts';
import type { RoundPlan, RunConfig } from './strategy.ts';
import {
  foundationSizeBytes,
  foundationValueCount,
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
export interface FoundationPart {
  /** Base weights that it replaces. */
  weights: readonly string[];
  /** Rank of its layers before they are cut to what a layer can have; null when it has none. */
  rank: number | null;
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
  foundation(part: FoundationPart): TransferSize;
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

  function shapeOf(rank: number, weights: readonly string[], own = Number.POSITIVE_INFINITY): StateShape {
    const rankOf = layerRanks(config, rank);
    return {
      baseSha256: config.baseSha256,
      classes: config.classes,
      lora: layers.map((layer) => {
        const [out = 0, ...inDims] = layer.weightDims;
        const whole = Math.min(rankOf(layer.module), out, elementCount(inDims));
        const r = Math.min(whole, own);
        const { a, b } = loraDims(layer, r);
        return { module: layer.module, r, scale: scaleOf(layer.module, whole), aDims: a, bDims: b };
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
        const shape = shapeOf(plan.rank, weights, own);
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
    foundation: ({ weights, rank }) =>
      remembered(['foundation', rank, weights.length], () => {
        const whole = shapeOf(rank ?? 0, weights);
        const shape = rank === null ? { ...whole, lora: [] } : whole;
        return { parameters: foundationValueCount(shape), bytes: foundationSizeBytes(shape, { config }) };
      }),
  };
}

/**
 * What becomes part of the base model when a round closes, and which base weights the next global state holds: the
 * shapes of what the strategies' `aggregateTrain` gives.
 */
export function foundationAfter(
  config: RunConfig,
  round: { plan: RoundPlan; next: RoundPlan; replaced: readonly string[]; participants: number },
): { part: FoundationPart | null; replaced: readonly string[] } {
  const { plan, next, replaced, participants } = round;
  if (config.strategy === 'flora-stack')
    return { part: { weights: [], rank: participants * plan.rank }, replaced: [] };
  // The last averaged base weights of an initiating stage: fetched once, then under every later state.
  if (config.strategy === 'sa-fedlora' && plan.mode !== 'lora' && next.mode === 'lora')
    return { part: { weights: replaced, rank: null }, replaced: [] };
  return { part: null, replaced };
}
