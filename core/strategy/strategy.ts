/** The interface of a federated strategy; names follow Flower's. One algorithm per file. */
import { z } from 'zod';
import { localTrainingSchema, type TrainMode } from '../engine/trainer-protocol.ts';
import type { ModelState } from '../lora/model-state.ts';
import { loraSettingsShape } from './lora-settings.ts';

export const scheduleShapeSchema = z.enum(['cubic', 'linear', 'cosine']);
export type ScheduleShape = z.infer<typeof scheduleShapeSchema>;

export const strategyNameSchema = z.enum(['sa-fedlora', 'fedavg-lora', 'fedavg-full', 'head-only']);
export type StrategyName = z.infer<typeof strategyNameSchema>;

/** Everything that the coordinator decides about a run; hashed and shown to each site before it trains. */
export const runConfigSchema = z.object({
  strategy: strategyNameSchema,
  baseId: z.string(),
  baseSha256: z.string().regex(/^[0-9a-f]{64}$/),
  classes: z.array(z.string().min(1)).min(2),
  ...loraSettingsShape,
  rounds: z.number().int().min(1).max(1000),
  initiatingRounds: z.number().int().nonnegative(),
  initiatingMode: z.enum(['lora', 'full', 'last-k']),
  lastK: z.number().int().nonnegative(),
  heatingRounds: z.number().int().nonnegative(),
  coolingRounds: z.number().int().nonnegative(),
  shape: scheduleShapeSchema,
  training: localTrainingSchema,
  /** λ of the proximal pull in the initiating stage. */
  proximal: z.number().nonnegative(),
  /** The learning rates of the last round as a share of those of the first; a cosine leads from one to the other. */
  finalLearningRateShare: z.number().min(0).max(1),
  seed: z.number().int(),
  /** Sites needed to open and to close a round. */
  quorum: z.number().int().min(1),
  /** A round closes with what it has after this long, if the quorum is there. */
  roundDeadlineMs: z.number().int().positive(),
  /** Purpose code that a consent must cover. */
  purpose: z.string(),
  /** Counts below this never leave a site. */
  smallCell: z.number().int().min(1),
});
export type RunConfig = z.infer<typeof runConfigSchema>;

export type Stage = 'initiating' | 'heating' | 'annealing' | 'cooling' | 'baseline';

/** What sites do in one round. */
export interface RoundPlan {
  round: number;
  stage: Stage;
  mode: TrainMode;
  /** LoRA rank; 0 when the round trains no factors. Layers of a rank pattern have ranks in proportion to it. */
  rank: number;
  proximal: number;
  /** By which the run's learning rates are multiplied in this round. */
  learningRateFactor: number;
}

export interface SiteUpdate {
  siteId: string;
  /** Training pictures behind this update: its weight. */
  examples: number;
  state: ModelState;
}

export interface AggregateResult {
  state: ModelState;
  /** Share of the squared Frobenius norm of the aggregated ΔW kept after cutting to the next rank, 0…1. */
  energyKept: number;
}

export interface SiteEvaluation {
  siteId: string;
  correct: number;
  total: number;
}

export interface Strategy {
  readonly name: StrategyName;
  /** The plan of round `round` (0-based). */
  configureTrain(config: RunConfig, round: number): RoundPlan;
  /**
   * Merges updates into the global state with which the next round starts.
   * `next` is the next round's plan; after the last round it is the last round's own plan.
   * @throws AppError UPDATE_REJECTED | SHAPE_MISMATCH
   */
  aggregateTrain(
    config: RunConfig,
    global: ModelState,
    updates: AsyncIterable<SiteUpdate> | Iterable<SiteUpdate>,
    next: RoundPlan,
  ): Promise<AggregateResult>;
  /** Weighted by counts. `accuracy` is null when no site may report. */
  aggregateEvaluate(results: readonly SiteEvaluation[]): { accuracy: number | null; total: number };
}
