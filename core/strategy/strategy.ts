/** The interface of a federated strategy; names follow Flower's. One algorithm per file. */
import { z } from 'zod';
import { type HeadSettings, trainModeSchema } from '../config/local-training.ts';
import { maxRank } from '../config/lora-settings.ts';
import type { RunConfig } from '../config/run-config.ts';
import type { StrategyName } from '../config/setting.ts';
import type { SiteEvaluation } from '../evaluation/aggregate.ts';
import type { EvaluationMetrics } from '../evaluation/metrics.ts';
import type { MatrixProducts } from '../linalg/matrix-products.ts';
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import type { FloatTensor } from '../shared/tensor.ts';

export const stageSchema = z.enum(['initiating', 'heating', 'annealing', 'cooling', 'baseline']);
export type Stage = z.infer<typeof stageSchema>;

/**
 * Which factor of every layer: ffa-lora, and sa-fedlora with `freezeA`, train and send B only, fedsa-lora trains both and
 * sends A only. None in the round that makes the head's start.
 */
export const factorsSchema = z.enum(['both', 'a', 'b', 'none']);
export type Factors = z.infer<typeof factorsSchema>;

/** What sites do in one round; part of the manifest. */
export const roundPlanSchema = z.strictObject({
  round: z.int().min(0).max(1_000_000),
  stage: stageSchema,
  mode: trainModeSchema,
  /**
   * LoRA rank; 0 when the round trains no factors. Layers of a rank pattern have ranks in proportion to it; a site
   * with an entry in `siteRanks` has at most that.
   */
  rank: z.int().min(0).max(maxRank),
  proximal: z.number().nonnegative(),
  /** By which the run's learning rates are multiplied in this round. */
  learningRateFactor: z.number().min(0).max(1),
  /** Factors that train; those that do not keep the values that the round started with. */
  trains: factorsSchema,
  /** Factors that travel, in both directions. A site keeps the others to itself from round to round. */
  sends: factorsSchema,
});
export type RoundPlan = z.infer<typeof roundPlanSchema>;

export interface SiteUpdate {
  siteId: string;
  /** Training images behind this update. */
  examples: number;
  /** What does not travel (see `RoundPlan.sends`, `localHead`) has the values of the global state. */
  state: ModelState;
}

/** A round's accepted updates. They may be read more than once, one at a time, in this order. */
export interface Updates {
  readonly sites: readonly { readonly siteId: string; readonly examples: number }[];
  read(siteId: string): Promise<ModelState>;
}

/** What a coordinator keeps from round to round beside the global state: the server optimiser's moments. */
export type ServerMemory = ReadonlyMap<string, FloatTensor>;

export interface AggregateRound {
  config: RunConfig;
  /** The plan of the round that ends. */
  plan: RoundPlan;
  /** The next round's plan; after the last round it is the last round's own plan. */
  next: RoundPlan;
  /** The state that the round started from, as the sites have it. */
  global: ModelState;
  updates: Updates;
  memory: ServerMemory | null;
  /**
   * The base model's own weights: what sites start from where `global` holds no base weights yet. Looked at in rounds
   * of mode `full` and `last-k` only. The rest in rounds of mode `prototypes`.
   */
  base: Pick<BaseModel, 'weights' | 'headGain' | 'embeddingLength'>;
  /** Standard normal numbers for noise; a cryptographic source when absent. Only tests and the simulation give one. */
  noise?: { normal(): number } | undefined;
  /** Multiplies what is summed up exactly. */
  products: MatrixProducts;
}

/** A site whose update counts less than sent or not at all, by a robust rule. */
export interface Exclusion {
  siteId: string;
  reason: string;
}

export interface AggregateResult {
  /** The global state with which the next round starts. */
  state: ModelState;
  /**
   * What becomes part of the base model for the rest of the run: sites fetch it once and put it under every later
   * state (see {@link FrozenBaseDelta}). Null when nothing does.
   */
  frozenBaseDelta: ModelState | null;
  memory: ServerMemory | null;
  /** Share of the squared Frobenius norm of the aggregated ΔW kept after cutting to the next rank, 0…1. */
  energyKept: number;
  /** How far the sites' changes lie apart; docs/method.md has the formula. */
  drift: Drift;
  exclusions: readonly Exclusion[];
}

/**
 * With u_k the change of site k's model (ΔW of layers, base weights and head) in a round, w_k its share and ū the
 * mean: `spread` = √(Σ w_k ‖u_k − ū‖²); `share` = spread² / Σ w_k ‖u_k‖², 0 when all sites agree, near 1 when their
 * changes cancel out.
 */
export interface Drift {
  spread: number;
  share: number;
}

/** What sites evaluate a round's start state with. */
export interface EvaluatePlan extends HeadSettings {
  /** Whether each site puts its local parameters into the state first, so that it evaluates a model of its own. */
  perSite: boolean;
  batchSize: number;
  /** Counts below this never leave a site. */
  smallCell: number;
}

/** What other code may ask of a strategy instead of its name; which factors train and travel is part of its plans. */
export interface StrategyTraits {
  /** What is merged, and by what two updates are compared: single values, or ΔW, of whose sum new factors are made. */
  readonly merges: 'values' | 'products';
  /**
   * Whether the result follows from Σ w_k x_k of what travels alone, as secure aggregation and the coordinator's noise
   * want it, as long as no robust rule looks at single updates.
   */
  readonly linear: boolean;
  /** Whether sites may have ranks of their own (`siteRanks`). */
  readonly siteRanks: boolean;
  /** Whether rounds follow the schedule of stages and ranks, and layers share a budget of directions. */
  readonly anneals: boolean;
  /** Whether A is made of the run's seeded rows and rotates within their space when the rank falls. */
  readonly rotatesA: boolean;
}

/** What becomes part of the frozen base when a round closes. */
export type FrozenPart = 'nothing' | 'base weights' | 'stacked factors' | 'cut directions';

/** A setting by its path in {@link RunConfig}, and its values that a rule is about, in words. */
export interface RuleSetting {
  setting: string;
  values: string;
}

/** Two settings that make no sense together. */
export interface CombinationRule {
  /** The option. */
  option: RuleSetting;
  /** What it does not go with. */
  with: RuleSetting;
  /** Completes "cannot be combined: …". */
  why: string;
  /** What to choose instead. */
  instead: string;
  refuses(config: RunConfig): boolean;
}

/**
 * Parts that a run has put under its global state, oldest first. Base weights of a part replace those below it; its
 * LoRA layers are added to the base weights as products s·B·A.
 */
export type FrozenBaseDelta = readonly ModelState[];

export interface Strategy {
  readonly name: StrategyName;
  /** Whether the global state names layers for LoRA factors. */
  readonly adaptsLayers: boolean;
  /** Settings that make no sense with this strategy, beyond what its traits say. */
  readonly rules?: readonly CombinationRule[];
  traits(config: Pick<RunConfig, 'freezeA'>): StrategyTraits;
  /** The plan of round `round` (0-based). */
  configureTrain(config: RunConfig, round: number): RoundPlan;
  /**
   * Merges a round's updates into the global state with which the next round starts. The order of the sites does
   * not matter but for rounding.
   * @throws AppError UPDATE_REJECTED | SHAPE_MISMATCH | QUORUM_NOT_REACHED
   */
  aggregateTrain(round: AggregateRound): Promise<AggregateResult>;
  /**
   * What `aggregateTrain` gives as frozen base delta between a round and the next. With the allocation `spectral`, cut
   * directions may turn out to be none.
   */
  frozenAfter(config: RunConfig, plan: RoundPlan, next: RoundPlan): FrozenPart;
  /** How sites evaluate the state with which round `round` (0-based) starts. */
  configureEvaluate(config: RunConfig, round: number): EvaluatePlan;
  /** Metrics of one state, over all sites that reported on it. */
  aggregateEvaluate(config: RunConfig, reports: readonly SiteEvaluation[]): EvaluationMetrics;
}
