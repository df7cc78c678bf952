/**
 * Everything that a run asks of a site, as one canonical document. Coordinator and site each derive it from the run's
 * settings and the base model; its SHA-256 is what a person approves, what every manifest names and what the audit trail
 * keeps. So a site never takes the coordinator's word for what will leave it.
 */
import { z } from 'zod';
import { alignmentSchema, originalAlignment } from '../config/alignment.ts';
import { type RunConfig, runConfigSchema } from '../config/run-config.ts';
import type { BaseModel } from '../models/base-model.ts';
import { hashJson } from '../shared/hash.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { elementCount } from '../shared/tensor.ts';
import { contributorsOf } from '../strategy/participation.ts';
import { createLeaves, leavesSchema } from './leaves.ts';

/** Who asks, as the site learnt it when it joined. */
export const askedBySchema = z.strictObject({
  federation: z.string().min(1).max(200),
  /** Ed25519 of the coordinator, base64url. */
  coordinatorKey: z.string().min(1).max(200),
});
export type AskedBy = z.infer<typeof askedBySchema>;

const count = z.int().nonnegative();

export const contractSchema = z.strictObject({
  version: z.literal(1),
  askedBy: askedBySchema,
  settings: runConfigSchema,
  baseModel: z.strictObject({
    name: z.string().max(200),
    sha256: sha256Schema,
    origin: z.string().max(500),
    weights: count,
    inputSize: count,
    /** Absent for `dlib-150`, which was the only one when contracts did not name it. */
    alignment: alignmentSchema.optional(),
    embeddingSize: count,
  }),
  /** Sites behind a state that is trained further or evaluated, at least. */
  minContributors: z.int().min(1).max(10_000),
  /** States that the site is asked to evaluate, at most. */
  evaluations: z.strictObject({ perRound: z.literal(1), atEnd: z.literal(1) }),
  leaves: leavesSchema,
});
export type Contract = z.infer<typeof contractSchema>;

/**
 * @param config complete
 * @param base the one that `config.baseSha256` names
 * @throws AppError CONFIG_INVALID for an unknown preset of modules
 */
export function contractOf(config: RunConfig, base: BaseModel, askedBy: AskedBy): Contract {
  const weights = [...base.weights.values()].reduce((sum, { dims }) => sum + elementCount(dims), 0);
  return {
    version: 1,
    askedBy,
    settings: config,
    baseModel: {
      name: config.baseId,
      sha256: base.sha256,
      origin: config.baseOrigin,
      weights,
      inputSize: base.inputSize,
      ...(base.alignment === originalAlignment ? {} : { alignment: base.alignment }),
      embeddingSize: base.embeddingSize,
    },
    minContributors: contributorsOf(config),
    evaluations: { perRound: 1, atEnd: 1 },
    leaves: createLeaves(config, base).summary(),
  };
}

export const contractHash = (contract: Contract): string => hashJson(contract);
