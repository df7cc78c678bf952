/** What a site allowed a federation to ask for; anything beyond it needs a person again. */
import { z } from 'zod';
import { privacySchema, wirePrecisionSchema } from '../config/round-options.ts';
import type { RunConfig } from '../config/run-config.ts';
import { highestRank } from '../strategy/lora-settings.ts';
import { getStrategy } from '../strategy/registry.ts';

/** Approvals of the first release allowed whole float32 updates without noise: their missing fields say so. */
export const approvalSchema = z.object({
  baseSha256: z.string(),
  purpose: z.string(),
  /** Whether all base weights may leave, or only LoRA factors and the head. */
  fullWeights: z.boolean(),
  rMax: z.number().int(),
  sends: z
    .object({ a: z.boolean(), b: z.boolean(), head: z.boolean() })
    .default({ a: true, b: true, head: true }),
  precision: wirePrecisionSchema.default('fp32'),
  /** Null when nobody adds noise. */
  privacy: privacySchema.nullable().default(null),
  /** Matters with privacy only: what noise protects shrinks with every round. */
  rounds: z.number().int().default(1000),
  smallCell: z.number().int().default(5),
  /** The run that was on the card. */
  runId: z.string().nullable().default(null),
  approvedAt: z.string(),
});
export type Approval = z.infer<typeof approvalSchema>;

/** What of a site's model leaves it in some round of a run, from the plans of its rounds. */
export interface Leaving {
  /** Weights of the base model: of the whole network or of its last blocks. */
  weights: 'none' | 'last-k' | 'full';
  a: boolean;
  b: boolean;
  head: boolean;
}

export function leavingOf(config: RunConfig): Leaving {
  const strategy = getStrategy(config.strategy);
  const leaving: Leaving = { weights: 'none', a: false, b: false, head: !config.localHead };
  for (let round = 0; round < config.rounds; round++) {
    const { mode, rank, sends } = strategy.configureTrain(config, round);
    if (mode === 'full') leaving.weights = 'full';
    else if (mode === 'last-k' && leaving.weights === 'none') leaving.weights = 'last-k';
    if (!strategy.adaptsLayers || rank === 0) continue;
    leaving.a ||= sends !== 'b';
    leaving.b ||= sends !== 'a';
  }
  return leaving;
}

export function approvalFor(runId: string, config: RunConfig, at: Date): Approval {
  const { weights, a, b, head } = leavingOf(config);
  return {
    baseSha256: config.baseSha256,
    purpose: config.purpose,
    fullWeights: weights !== 'none',
    rMax: highestRank(config),
    sends: { a, b, head },
    precision: config.wire.up,
    privacy: config.privacy,
    rounds: config.rounds,
    smallCell: config.smallCell,
    runId,
    approvedAt: at.toISOString(),
  };
}

const precisions = ['int8', 'fp16', 'fp32'] as const;
const places = ['coordinator', 'site'] as const;

/** True when the run asks for no more, and protects no less, than was approved before. */
export function covers(approval: Approval, runId: string, config: RunConfig): boolean {
  const asked = approvalFor(runId, config, new Date(0));
  return (
    approval.baseSha256 === asked.baseSha256 &&
    approval.purpose === asked.purpose &&
    approval.rMax >= asked.rMax &&
    approval.smallCell <= asked.smallCell &&
    (approval.fullWeights || !asked.fullWeights) &&
    coversParts(approval, asked) &&
    precisions.indexOf(approval.precision) >= precisions.indexOf(asked.precision) &&
    protectsAsMuch(approval, asked)
  );
}

/** All weights of the network say more than factors do. */
function coversParts({ fullWeights, sends }: Approval, asked: Approval): boolean {
  const factors = fullWeights || ((sends.a || !asked.sends.a) && (sends.b || !asked.sends.b));
  return factors && (sends.head || !asked.sends.head);
}

/**
 * With the same noise and no more rounds, ε is no larger; the clip norm has no part in it. The ε of several runs add up:
 * what was approved with noise holds for that run only.
 */
function protectsAsMuch(approval: Approval, asked: Approval): boolean {
  if (approval.privacy === null) return true;
  if (approval.privacy.noiseMultiplier > 0 && approval.runId !== asked.runId) return false;
  if (asked.privacy === null || asked.rounds > approval.rounds) return false;
  return (
    places.indexOf(asked.privacy.at) >= places.indexOf(approval.privacy.at) &&
    asked.privacy.noiseMultiplier >= approval.privacy.noiseMultiplier
  );
}
