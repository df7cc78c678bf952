/** What people at a site say to a run: approve it, approve within limits, decline. */

import { runConfigSchema } from '../config/run-config.ts';
import type { Catalogue } from '../models/catalogue.ts';
import { asksForMore } from '../policy/asks-for-more.ts';
import { contractOf, contractSchema } from '../policy/contract.ts';
import { type Limits, type StandingApproval, withLimits } from '../policy/standing-approval.ts';
import { AppError } from '../shared/errors.ts';
import type { ContractRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { recordDecision } from './approval.ts';

export interface DecisionOptions {
  store: Store;
  catalogue: Catalogue;
  /** Who decides: a role or account. */
  actor: string;
}

function shown(store: ReadOnlyStore, contractSha256: string): ContractRecord {
  const contract = store.contracts.bySha(contractSha256);
  if (contract !== null) return contract;
  throw new AppError('NOT_FOUND', 'No run with this contract has asked this site.', {
    action: 'Reload the list of requests; the coordinator may have started another run.',
  });
}

/**
 * @param limits when it is to hold for later runs of the study, too
 * @throws AppError NOT_FOUND; CONFIG_INVALID when the limits do not cover the run on the card, or make no sense
 */
export async function approve(
  { store, catalogue, actor }: DecisionOptions,
  contractSha256: string,
  limits?: Limits,
): Promise<void> {
  const { runId, document } = shown(store, contractSha256);
  const common = { runId, contractSha256, actor };
  if (limits === undefined) return recordDecision(store, { ...common, kind: 'approved' });
  const standing = await grant(catalogue, document, limits);
  store.transaction(() => {
    recordDecision(store, { ...common, kind: 'approved-within-limits', standing });
    const [own] = store.decisions.standing();
    recordDecision(store, { ...common, kind: 'covered', coveredBy: own!.id });
  });
}

async function grant(catalogue: Catalogue, document: unknown, limits: Limits): Promise<StandingApproval> {
  const asked = contractSchema.parse(document);
  const config = runConfigSchema.safeParse(withLimits(asked.settings, limits));
  if (!config.success) {
    const [issue] = config.error.issues;
    throw new AppError(
      'CONFIG_INVALID',
      `The limit "${issue!.path.join('.')}" is invalid: ${issue!.message}.`,
    );
  }
  const baseId = await catalogue.resolve(config.data.baseId, config.data.baseSha256);
  const granted = contractOf(config.data, await catalogue.load(baseId), asked.askedBy);
  const [excess] = asksForMore(granted, asked);
  if (excess !== undefined)
    throw new AppError(
      'CONFIG_INVALID',
      `These limits do not cover the run on the card: it asks for more in "${excess.path.replace('settings.', '')}".`,
      { action: 'Widen this limit, or decline the run with a reason.' },
    );
  return { granted, runs: limits.runs, until: limits.until };
}

/** Also takes back what was approved: a round in progress ends. @throws AppError NOT_FOUND */
export function decline(
  { store, actor }: Omit<DecisionOptions, 'catalogue'>,
  contractSha256: string,
  reason: string,
): void {
  const { runId } = shown(store, contractSha256);
  recordDecision(store, { runId, contractSha256, kind: 'declined', reason, actor });
}

/** Takes limits back: they cover no further round. @throws AppError NOT_FOUND */
export function endStanding({ store, actor }: Omit<DecisionOptions, 'catalogue'>, decision: number): void {
  store.transaction(() => {
    if (!store.decisions.end(decision))
      throw new AppError('NOT_FOUND', 'There is no such approval, or it has ended already.');
    store.audit.append({ actor, action: 'approval-ended', details: { decision } });
  });
}
