/** What a site writes into its store about runs, receipts and withdrawals; each call is one transaction. */
import { cohortsTouchedBySubject } from '../consent/cohort.ts';
import type { Store } from '../store/store.ts';
import type { ManifestBody, ReceiptBody } from '../transport/messages.ts';
import { approvalFor, approvalSchema, covers } from './approval.ts';
import type { SitePorts } from './ports.ts';

/** Whether what a person approved before covers this run. */
export function wasApproved(store: Store, { runId, config }: ManifestBody): boolean {
  const approval = store.settings.get('site.approval', approvalSchema);
  return approval !== null && covers(approval, runId, config);
}

export function recordApproval(store: Store, { runId, config }: ManifestBody, actor: string): void {
  const approval = approvalFor(runId, config, new Date());
  store.transaction(() => {
    store.settings.set('site.approval', approval);
    store.audit.append({ actor, action: 'federation-approved', details: { ...approval } });
  });
}

/** The site's own rows of the run and the round, which its other rows refer to. */
export function recordRun(store: Store, current: ManifestBody): void {
  const { runId, phase, round, plan, state, deadlineAt } = current;
  store.transaction(() => {
    if (store.runs.get(runId) === null) store.runs.insert({ id: runId, config: current.config });
    const over = phase === 'finished' || phase === 'stopped';
    const status = phase === 'train' ? 'running' : phase === 'evaluate' ? 'evaluating' : phase;
    store.runs.update(runId, { status, round, finishedAt: over ? store.now() : null });
    if (phase !== 'train' || state === null || store.rounds.get(runId, round) !== null) return;
    store.rounds.insert({
      runId,
      round,
      stage: plan.stage,
      rank: plan.rank,
      trainableParameters: 0,
      startSha256: state.sha256,
      deadlineAt,
    });
  });
}

/** @returns false when the receipt is about no update that waits for one */
export function recordReceipt(store: Store, siteId: string, receipt: ReceiptBody): boolean {
  const { runId, round, updateSha256, accepted } = receipt;
  const row = store.roundSites.get(runId, round, siteId);
  if (row === null || row.updateSha256 !== updateSha256 || row.status !== 'announced') return false;
  store.transaction(() => {
    store.roundSites.upsert({
      runId,
      round,
      siteId,
      status: accepted ? 'received' : 'rejected',
      reason: receipt.reason ?? null,
    });
    // What the site kept of a round whose update does not count belongs to no shared model.
    if (!accepted) store.siteMemory.remove(runId, round);
    store.audit.append({
      actor: 'coordinator',
      action: accepted ? 'update-accepted' : 'update-refused',
      details: { runId, round, update: updateSha256 },
    });
  });
  return true;
}

/**
 * Throws away what a round has trained on a subject whose consent was withdrawn, so that it is done again. An update
 * that was announced may have reached the coordinator although no receipt came yet: then its cohort stays in the trace,
 * which must never say "not used" of a subject that was.
 * @returns files to delete, or null when the round has not used the subject or is received already
 */
export function discardWithdrawn(
  store: Store,
  ports: Pick<SitePorts, 'retractAnnouncement'>,
  { runId, round, siteId, pseudonym }: { runId: string; round: number; siteId: string; pseudonym: string },
): string[] | null {
  const row = store.roundSites.get(runId, round, siteId);
  const touched = cohortsTouchedBySubject(store, pseudonym).filter(
    (cohort) => cohort.runId === runId && cohort.round === round && !cohort.superseded,
  );
  if (touched.length === 0 || row === null || row.status === 'received') return null;
  const unsent = row.updateSha256;
  const memory = store.siteMemory.newestBefore(runId, round + 1);
  store.transaction(() => {
    if (unsent === null) for (const cohort of touched) store.cohorts.supersede(cohort.id);
    else ports.retractAnnouncement(runId, round);
    if (unsent !== null) store.adapters.remove({ runId, round, siteId, sha256: unsent });
    store.siteMemory.remove(runId, round);
    store.roundSites.upsert({ runId, round, siteId, status: 'working' });
    store.audit.append({
      actor: 'site',
      action: 'round-restarted',
      details: { runId, round, reason: 'consent withdrawn' },
    });
  });
  const files = [unsent, memory?.round === round ? memory.sha256 : null];
  return files.filter((sha256) => sha256 !== null);
}
