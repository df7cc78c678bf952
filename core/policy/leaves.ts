/** What leaves a site in each round of a run by name and shape: for the contract, and to hold every file against it. */
import { z } from 'zod';
import { trainModeSchema } from '../config/local-training.ts';
import { wirePrecisionSchema } from '../config/round-options.ts';
import type { RunConfig } from '../config/run-config.ts';
import { rankLimit, type StateShape, shapesAtRank } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { elementCount } from '../shared/tensor.ts';
import { spectralLimit } from '../strategy/allocation.ts';
import { fixesA } from '../strategy/fixed-factor.ts';
import { createStateShapes, type StateShapes } from '../strategy/plan-shapes.ts';
import { getStrategy } from '../strategy/registry.ts';
import { factorsSchema, type RoundPlan } from '../strategy/strategy.ts';
import { fileSizeBytes, fileValueCount, updateForm } from '../strategy/wire/wire.ts';
import { type FileForm, wireEntries } from '../strategy/wire/wire-context.ts';

/** By which a file may be larger than its shapes say: for digits of ranks in its metadata. */
export const slackBytes = 16 * 1024;

const count = z.int().nonnegative();
const roundNumber = z.int().min(0).max(1000);

/** What leaves a site in each of some consecutive rounds, at most. */
const leavingRoundsSchema = z.strictObject({
  from: roundNumber,
  /** The last of them. */
  to: roundNumber,
  mode: trainModeSchema,
  rank: z.int().min(0).max(100_000),
  sends: factorsSchema,
  tensors: count,
  values: count,
  bytes: count,
});
export type LeavingRounds = z.infer<typeof leavingRoundsSchema>;

const leavingTensorSchema = z.strictObject({
  /** As in the file. */
  name: z.string().max(2000),
  /** At its largest in the run. */
  dims: z.array(count).max(16),
});
export type LeavingTensor = z.infer<typeof leavingTensorSchema>;

/** As the contract has it. */
export const leavesSchema = z.strictObject({
  precision: wirePrecisionSchema,
  rounds: z.array(leavingRoundsSchema).max(1000),
  tensors: z.array(leavingTensorSchema).max(1_000_000),
  /** Over the whole run. */
  bytes: count,
});
type LeavesSummary = z.infer<typeof leavesSchema>;

/** What one round's update holds, at most. */
export interface RoundLeaves {
  plan: RoundPlan;
  /** By name in the file. */
  tensors: ReadonlyMap<string, readonly number[]>;
  /** Values in all of them together: with the allocation `spectral` less than their largest shapes add up to. */
  values: number;
  bytes: number;
}

export interface Leaves {
  ofRound(round: number): RoundLeaves;
  summary(): LeavesSummary;
}

/** Rounds of one plan ask for the same: a run of a thousand rounds has a handful of different ones. */
const kindOf = ({ mode, rank, sends }: RoundPlan) => `${mode} ${rank} ${sends}`;

/** @throws AppError CONFIG_INVALID for an unknown preset of modules */
export function createLeaves(config: RunConfig, base: BaseModel): Leaves {
  const strategy = getStrategy(config.strategy);
  const shapes = createStateShapes(config, base);
  const known = new Map<string, Omit<RoundLeaves, 'plan'>>();

  function measure(plan: RoundPlan): Omit<RoundLeaves, 'plan'> {
    const form = updateForm({ config, plan });
    const weights = shapes.trainedWeights(plan);
    const planned = shapes.shapeOf(plan.rank, weights);
    const spreads = spreadsRanks(config, plan.rank);
    const largest = spreads ? highestShape(config, shapes, weights) : planned;
    const widest = spreads ? widestWithin(planned, largest, form) : planned;
    return {
      tensors: new Map(wireEntries(largest, form.parts).map(({ name, dims }) => [name, dims])),
      values: fileValueCount(widest, form),
      bytes: fileSizeBytes(widest, form),
    };
  }

  function ofRound(round: number): RoundLeaves {
    const plan = strategy.configureTrain(config, round);
    const kind = kindOf(plan);
    const leaves = known.get(kind) ?? measure(plan);
    known.set(kind, leaves);
    return { plan, ...leaves };
  }

  return {
    ofRound,
    summary() {
      const rounds: LeavingRounds[] = [];
      const tensors = new Map<string, readonly number[]>();
      let kind = '';
      for (let round = 0; round < config.rounds; round++) {
        const { plan, ...leaves } = ofRound(round);
        for (const [name, dims] of leaves.tensors) {
          const before = tensors.get(name);
          if (before === undefined || elementCount(dims) > elementCount(before)) tensors.set(name, dims);
        }
        const { mode, rank, sends } = plan;
        if (kind === kindOf(plan)) rounds.at(-1)!.to = round;
        else {
          const { values, bytes } = leaves;
          const size = { tensors: leaves.tensors.size, values, bytes };
          rounds.push({ from: round, to: round, mode, rank, sends, ...size });
        }
        kind = kindOf(plan);
      }
      return {
        precision: config.wire.up,
        rounds,
        tensors: [...tensors]
          .map(([name, dims]): LeavingTensor => ({ name, dims: [...dims] }))
          .sort((a, b) => (a.name < b.name ? -1 : 1)),
        bytes: rounds.reduce((sum, { from, to, bytes }) => sum + bytes * (to - from + 1), 0),
      };
    },
  };
}

/** Whether a round's budget of directions moves from layer to layer. */
export function spreadsRanks(config: RunConfig, rank: number): boolean {
  return getStrategy(config.strategy).traits(config).anneals && config.allocation === 'spectral' && rank > 0;
}

/** The highest rank that any round of the run plans. */
function highestRoundRank(config: RunConfig): number {
  const { configureTrain } = getStrategy(config.strategy);
  const ranks = Array.from({ length: config.rounds }, (_, round) => configureTrain(config, round).rank);
  return Math.max(...ranks);
}

/** Where directions move from layer to layer: the most that each layer could have in any round of the run. */
export function highestShape(config: RunConfig, shapes: StateShapes, weights: readonly string[]): StateShape {
  const planned = shapes.shapeOf(highestRoundRank(config), weights);
  // Where A is fixed, no rank rises again.
  if (fixesA(config)) return planned;
  const lora = [...planned.lora].map(([module, layer]) => {
    const r = Math.min(rankLimit(layer), spectralLimit(config, layer.r));
    return [module, { ...layer, r, ...shapesAtRank(layer, r) }] as const;
  });
  return { ...planned, lora: new Map(lora) };
}

/** As many directions as `planned` has in all, each in the layer where it has the most values that travel. */
export function widestWithin(
  planned: StateShape,
  largest: StateShape,
  { parts }: Pick<FileForm, 'parts'>,
): StateShape {
  let left = [...planned.lora.values()].reduce((sum, { r }) => sum + r, 0);
  const valuesOf = (module: string) => {
    const { a, b, r } = largest.lora.get(module)!;
    const sent = (parts.a ? elementCount(a.dims) : 0) + (parts.b ? elementCount(b.dims) : 0);
    return sent / Math.max(1, r);
  };
  const modules = [...largest.lora.keys()].sort((x, y) => valuesOf(y) - valuesOf(x));
  const lora = new Map(planned.lora);
  for (const module of modules) {
    const layer = largest.lora.get(module)!;
    const r = Math.min(left, layer.r);
    left -= r;
    lora.set(module, { ...layer, r, ...shapesAtRank(layer, r) });
  }
  return { ...planned, lora };
}
