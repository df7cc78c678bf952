/**
 * What a site demands of a manifest before it works by it, and what it allowed a federation to ask for; anything beyond that
 * needs a person again.
 */
import { z } from 'zod';
import { privacySchema, wirePrecisionSchema } from '../config/round-options.ts';
import { type RunConfig, runConfigSchema } from '../config/run-config.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { highestRank } from '../strategy/lora-settings.ts';
import { getStrategy } from '../strategy/registry.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import type { ManifestBody } from '../transport/messages.ts';

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

/** Cosines of two machines may differ in their last digit. */
const roundingShare = 1e-9;

/**
 * What a person approved are the settings of a run. So these must fit their hash, and a round's plan must be the one
 * that follows from them: a coordinator must not ask in a round for more than was approved.
 * @throws AppError CONFIG_INVALID
 */
export function checkManifest({ config, configSha256, round, plan }: ManifestBody): void {
  const parsed = runConfigSchema.safeParse(config);
  if (!parsed.success || hashJson(parsed.data) !== configSha256) {
    throw refused('The settings of a run do not match their hash; this site ignores the run.');
  }
  const { strategy, rounds } = parsed.data;
  if (round >= rounds || plan.round !== round) {
    throw refused(`The settings of the run have no round ${round + 1}; this site does not take part in it.`);
  }
  const due = getStrategy(strategy).configureTrain(parsed.data, round);
  const wrong = differenceOf(plan, due);
  if (wrong === null) return;
  throw refused(
    `What the coordinator asks for in round ${round + 1} does not follow from the settings of the run ("${wrong}" is ` +
      `${String(plan[wrong])} instead of ${String(due[wrong])}); this site does not take part in it.`,
  );
}

const refused = (message: string) =>
  new AppError('CONFIG_INVALID', message, {
    action: 'Ask the coordinator; both sides must run compatible versions of Anneal.',
  });

function differenceOf(plan: RoundPlan, due: RoundPlan): keyof RoundPlan | null {
  const exact = ['mode', 'rank', 'trains', 'sends'] as const;
  const wrong = exact.find((key) => plan[key] !== due[key]);
  if (wrong !== undefined) return wrong;
  const close = ['proximal', 'learningRateFactor'] as const;
  return close.find((key) => Math.abs(plan[key] - due[key]) > roundingShare * due[key]) ?? null;
}
