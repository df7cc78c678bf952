/** What a site allowed a federation to ask for; anything beyond it needs a person again. */
import { z } from 'zod';
import { highestRank } from '../strategy/lora-settings.ts';
import type { RunConfig } from '../strategy/strategy.ts';

export const approvalSchema = z.object({
  baseSha256: z.string(),
  purpose: z.string(),
  /** Whether all base weights may leave, or only LoRA factors and the head. */
  fullWeights: z.boolean(),
  rMax: z.number().int(),
  approvedAt: z.string(),
});
export type Approval = z.infer<typeof approvalSchema>;

export function sendsFullWeights(config: RunConfig): boolean {
  if (config.strategy === 'fedavg-full') return true;
  return config.strategy === 'sa-fedlora' && config.initiatingRounds > 0 && config.initiatingMode !== 'lora';
}

export function approvalFor(config: RunConfig, at: Date): Approval {
  return {
    baseSha256: config.baseSha256,
    purpose: config.purpose,
    fullWeights: sendsFullWeights(config),
    rMax: highestRank(config),
    approvedAt: at.toISOString(),
  };
}

/** True when the run asks for no more than was approved before. */
export function covers(approval: Approval, config: RunConfig): boolean {
  return (
    approval.baseSha256 === config.baseSha256 &&
    approval.purpose === config.purpose &&
    approval.rMax >= highestRank(config) &&
    (approval.fullWeights || !sendsFullWeights(config))
  );
}
