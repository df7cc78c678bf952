/** Everything that the coordinator decides about a run; hashed and shown to each site before it trains. */
import { z } from 'zod';
import { localTrainingSchema } from './local-training.ts';
import { loraSettingsShape, maxRank } from './lora-settings.ts';
import { privacySchema, robustSchema, serverOptimiserSchema, wireSchema } from './round-options.ts';

export const scheduleShapeSchema = z.enum(['cubic', 'linear', 'cosine']);
export type ScheduleShape = z.infer<typeof scheduleShapeSchema>;

export const strategyNameSchema = z.enum([
  'sa-fedlora',
  'flexlora',
  'hetlora',
  'flora-stack',
  'fedavg-lora',
  'ffa-lora',
  'fedsa-lora',
  'fedavg-full',
  'fedprox-full',
  'head-only',
]);
export type StrategyName = z.infer<typeof strategyNameSchema>;

/** The options that can be combined with any strategy, as they are when nobody chooses. */
export const optionDefaults = {
  allocation: 'uniform',
  cutOff: 'drop',
  freezeA: false,
  siteRanks: {},
  weighting: 'examples',
  participation: 1,
  localHead: false,
  serverOptimiser: { kind: 'none' },
  wire: { up: 'fp32', down: 'fp32', errorFeedback: false },
  privacy: null,
  robust: { rule: 'mean' },
} as const;

/** Settings that came after the first release have defaults, so that runs stored before can still be read. */
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
  /**
   * How sa-fedlora spreads a round's budget r·L over the L layers: every layer r, or the largest singular values of
   * all layers.
   */
  allocation: z.enum(['uniform', 'spectral']).default(optionDefaults.allocation),
  /**
   * What becomes of the directions that sa-fedlora cuts off when the rank falls: `drop`, as in the paper; `freeze`: they
   * train no more, but stay in the model as a part of the run's frozen base delta, which every site fetches once.
   */
  cutOff: z.enum(['drop', 'freeze']).default(optionDefaults.cutOff),
  /**
   * sa-fedlora with A fixed, as in ffa-lora: A is drawn from the seed, B alone trains and travels. When the rank falls, A
   * rotates within the space of its seeded rows.
   */
  freezeA: z.boolean().default(optionDefaults.freezeA),
  /**
   * Highest rank of single sites by their name, for hetlora, flexlora, flora-stack and sa-fedlora (without `freezeA`);
   * other sites take the round's rank.
   */
  siteRanks: z.record(z.string(), z.number().int().min(1).max(maxRank)).default(optionDefaults.siteRanks),
  /** Weight of a site's update: its number of training images, or 1. */
  weighting: z.enum(['examples', 'equal']).default(optionDefaults.weighting),
  /** Share of the sites that train in a round, drawn anew for each round; never fewer than the quorum. */
  participation: z.number().gt(0).max(1).default(optionDefaults.participation),
  /** Personalisation: each site keeps a classification head of its own, which never travels. */
  localHead: z.boolean().default(optionDefaults.localHead),
  serverOptimiser: serverOptimiserSchema.default(optionDefaults.serverOptimiser),
  wire: wireSchema.default(optionDefaults.wire),
  /** Clipping and Gaussian noise; none when null. */
  privacy: privacySchema.nullable().default(optionDefaults.privacy),
  robust: robustSchema.default(optionDefaults.robust),
  training: localTrainingSchema,
  /** λ of the proximal pull in the initiating stage, and in every round of fedprox-full. */
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
