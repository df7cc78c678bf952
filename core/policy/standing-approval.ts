/** "Approve within these limits": what a person grants beyond the run on the card. */
import { z } from 'zod';
import type { RunConfig } from '../config/run-config.ts';
import { asksForMore, type Excess } from './asks-for-more.ts';
import { type Contract, contractSchema } from './contract.ts';

/** What a person may set beside the fields of the contract itself. */
export const limitsSchema = z.strictObject({
  rounds: z.int().min(1).max(1000).exactOptional(),
  rMax: z.int().min(1).max(256).exactOptional(),
  quorum: z.int().min(1).max(10_000).exactOptional(),
  smallCell: z.int().min(1).max(1e6).exactOptional(),
  classes: z.array(z.string().min(1).max(1000)).min(2).max(100_000).exactOptional(),
  batchSize: z.int().min(1).max(100_000).exactOptional(),
  clipNorm: z.number().min(0).max(1e6).exactOptional(),
  /** Runs that it covers, that on the card included. */
  runs: z.int().min(1).max(1000),
  /** ISO 8601 UTC, the first instant at which it covers no further round. */
  until: z.iso.datetime().nullable(),
});
export type Limits = z.infer<typeof limitsSchema>;

/** As it is kept: the contract that a run may ask for at most. */
export const standingApprovalSchema = z.strictObject({
  granted: contractSchema,
  runs: z.int().min(1),
  until: z.iso.datetime().nullable(),
});
export type StandingApproval = z.infer<typeof standingApprovalSchema>;

/** The settings of the run on the card, with a person's limits in their place. */
export function withLimits(config: RunConfig, limits: Limits): RunConfig {
  const { batchSize, clipNorm, runs: _runs, until: _until, ...direct } = limits;
  const training = {
    ...config.training,
    ...(batchSize === undefined ? {} : { batchSize }),
    ...(clipNorm === undefined ? {} : { clipNorm }),
  };
  return { ...config, ...direct, training };
}

export type Coverage =
  | { covers: true }
  | { covers: false; because: 'runs' | 'expired' | 'asks-for-more'; excess: Excess[] };

/**
 * @param runsBefore other runs that it has covered so far
 * @param at ISO 8601 UTC
 */
export function coverageOf(
  { granted, runs, until }: StandingApproval,
  asked: Contract,
  { runsBefore, at }: { runsBefore: number; at: string },
): Coverage {
  if (until !== null && at >= until) return { covers: false, because: 'expired', excess: [] };
  if (runsBefore >= runs) return { covers: false, because: 'runs', excess: [] };
  const excess = asksForMore(granted, asked);
  return excess.length === 0 ? { covers: true } : { covers: false, because: 'asks-for-more', excess };
}
