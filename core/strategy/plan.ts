/**
 * What a run will send, from shapes alone. Conventions (docs/method.md): every site fetches the global state
 * at the start of each round (down), sends its update (up), and fetches the last state when the run ends.
 */
import { trainableWeights } from '../engine/training-graph.ts';
import { countShapeParameters, modelStateSizeBytes, type StateShape } from '../lora/state-file.ts';
import type { BaseModel } from '../models/base-model.ts';
import { elementCount } from '../shared/tensor.ts';
import { adaptedLayers, layerRanks, layerScales } from './lora-settings.ts';
import { getStrategy } from './registry.ts';
import type { RoundPlan, RunConfig } from './strategy.ts';

/** A round as planned, before it runs. Bytes are those of the state files, without the transport's envelopes. */
export interface PlannedRound extends RoundPlan {
  /** Sites that train and send an update. All sites fetch the global state: those that do not train evaluate it. */
  participants: number;
  /** Values that a site trains. */
  trainableParameters: number;
  /** Values in the update of a site without a rank of its own. */
  parametersPerSite: number;
  /** Size of that update: what leaves the site. */
  bytesPerSite: number;
  /** Values that a site fetches: the global state, and what became part of the base model since the last round. */
  parametersDownPerSite: number;
  /** Size of what a site fetches. */
  bytesDownPerSite: number;
}

/** The baselines are counted with the same rounds, sites and options (wire, participation, local head). */
export interface RunTotals {
  /** Values sent by all sites and to all sites over the whole run. */
  parametersSent: number;
  bytesSent: number;
  /** The same counts for `fedavg-full`. */
  fedavgFullParameters: number;
  fedavgFullBytes: number;
  /** The same counts for `fedavg-lora`: the fixed rank r_max. */
  fixedRankParameters: number;
  fixedRankBytes: number;
}

export interface PlannedRun {
  plan: PlannedRound[];
  totals: RunTotals;
}

/**
 * Plan and totals of a run with `sites` sites in every round.
 * @throws AppError CONFIG_INVALID for an unknown preset of modules
 */
export function planRun(config: RunConfig, base: BaseModel, sites: number): PlannedRun {
  const { plan, perSite } = planSite(config, base);
  const full = planSite({ ...config, strategy: 'fedavg-full' }, base).perSite;
  const fixed = planSite({ ...config, strategy: 'fedavg-lora' }, base).perSite;
  return {
    plan: plan.map((round) => ({ ...round, participants: sites })),
    totals: {
      parametersSent: sites * perSite.parameters,
      bytesSent: sites * perSite.bytes,
      fedavgFullParameters: sites * full.parameters,
      fedavgFullBytes: sites * full.bytes,
      fixedRankParameters: sites * fixed.parameters,
      fixedRankBytes: sites * fixed.bytes,
    },
  };
}

type SiteRound = Omit<PlannedRound, 'participants'>;

function planSite(config: RunConfig, base: BaseModel): { plan: SiteRound[]; perSite: StateSize } {
  const strategy = getStrategy(config.strategy);
  const sizeOf = createStateMeasure(config, base);
  const plan: SiteRound[] = [];
  /** Base weights that the averaging has replaced so far: part of every later global state. */
  let replaced: readonly string[] = [];
  const perSite = { parameters: 0, bytes: 0 };
  const send = ({ parameters, bytes }: StateSize) => {
    perSite.parameters += parameters;
    perSite.bytes += bytes;
  };
  for (let round = 0; round < config.rounds; round++) {
    const roundPlan = strategy.configureTrain(config, round);
    const trained = trainableWeights(base, roundPlan.mode, config.lastK);
    const down = sizeOf(roundPlan.rank, replaced);
    const up = sizeOf(roundPlan.rank, trained);
    plan.push({
      ...roundPlan,
      trainableParameters: up.parameters,
      parametersPerSite: up.parameters,
      bytesPerSite: up.bytes,
      parametersDownPerSite: down.parameters,
      bytesDownPerSite: down.bytes,
    });
    send(down);
    send(up);
    replaced = [...new Set([...replaced, ...trained])];
  }
  send(sizeOf(plan.at(-1)?.rank ?? 0, replaced));
  return { plan, perSite };
}

interface StateSize {
  parameters: number;
  bytes: number;
}

/** Sizes of states of this run; most rounds of a run ask for one that was measured before. */
function createStateMeasure(
  config: RunConfig,
  base: BaseModel,
): (rank: number, weights: readonly string[]) => StateSize {
  const known = new Map<string, StateSize>();
  return (rank, weights) => {
    const key = JSON.stringify([rank, weights]);
    const shape = known.has(key) ? null : shapeOf(config, base, rank, weights);
    if (shape !== null) {
      known.set(key, { parameters: countShapeParameters(shape), bytes: modelStateSizeBytes(shape) });
    }
    return known.get(key)!;
  };
}

/** Shape of a state of this run at a rank, with the named base weights in it. */
function shapeOf(config: RunConfig, base: BaseModel, rank: number, weights: readonly string[]): StateShape {
  const hasLayers = getStrategy(config.strategy).adaptsLayers;
  const layers = hasLayers ? adaptedLayers(config, base) : [];
  const rankOf = layerRanks(config, rank);
  const scaleOf = layerScales(config);
  return {
    baseSha256: config.baseSha256,
    classes: config.classes,
    lora: layers.map(({ module, kind, weightDims }) => {
      const [out = 0, ...inDims] = weightDims;
      const r = Math.min(rankOf(module), out, elementCount(inDims));
      const bDims = kind === 'conv' ? [out, r, 1, 1] : [out, r];
      return { module, r, scale: scaleOf(module, r), aDims: [r, ...inDims], bDims };
    }),
    head: [
      { name: 'weight', dims: [config.classes.length, base.embeddingSize] },
      { name: 'bias', dims: [config.classes.length] },
    ],
    base: weights.map((name) => ({ name, dims: base.weights.get(name)!.dims })),
  };
}
