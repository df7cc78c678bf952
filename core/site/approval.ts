/**
 * Whether a site works by a manifest: it must follow from the run's contract in every detail, the site's policy must
 * allow the contract, and a person must have approved it.
 */

import { runConfigSchema, startStateOf } from '../config/run-config.ts';
import { clockFault } from '../consent/site-clock.ts';
import { siteTimeZone } from '../consent/site-zone.ts';
import { asksForMore, type Excess } from '../policy/asks-for-more.ts';
import { type BaseFacts, policyRefused, refusalsOf } from '../policy/check-policy.ts';
import { type Contract, contractSchema } from '../policy/contract.ts';
import { coverageOf, type StandingApproval, standingApprovalSchema } from '../policy/standing-approval.ts';
import { AppError, type ErrorReport } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import type { DecisionRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { getStrategy } from '../strategy/registry.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import type { ManifestBody } from '../transport/messages.ts';
import { policyOrFault, quietUntil } from './policy.ts';

/** Cosines of two machines may differ in their last digit. */
const roundingShare = 1e-9;

/**
 * What can be said of a manifest without its base model: its settings fit their hash, its round and plan follow from
 * them, and it says the same of the run and of rounds that have begun as before.
 * @throws AppError CONTRACT_BROKEN
 */
export function checkManifest(manifest: ManifestBody, store: ReadOnlyStore): void {
  const { runId, config, configSha256, contractSha256, round, plan, phase, frozenBaseDelta, state } =
    manifest;
  const parsed = runConfigSchema.safeParse(config);
  if (!parsed.success || hashJson(parsed.data) !== configSha256) {
    throw broken('The settings of a run do not match their hash; this site ignores the run.', versions);
  }
  const { strategy, rounds } = parsed.data;
  const start = startStateOf(parsed.data);
  const shown = start === null ? null : resultOf(store, start.runId, start.round);
  if (shown !== null && shown !== start?.sha256)
    throw broken('The run does not start from the version of an earlier run that it names.');
  if (round >= rounds || plan.round !== round) {
    throw broken(`The settings of the run have no round ${round + 1}; this site does not take part in it.`);
  }
  const due = getStrategy(strategy).configureTrain(parsed.data, round);
  const wrong = differenceOf(plan, due);
  if (wrong !== null) {
    throw broken(
      `What the coordinator asks for in round ${round + 1} does not follow from the settings of the run ("${wrong}" is ` +
        `${String(plan[wrong])} instead of ${String(due[wrong])}); this site does not take part in it.`,
    );
  }
  const known = store.contracts.pinsOf(runId);
  const before = store.runs.get(runId);
  const isSameRun =
    (known === null || known.sha256 === contractSha256) &&
    (before === null || sameSettings(before.config, configSha256));
  if (!isSameRun) throw broken('The coordinator changed the contract of a run that this site knows already.');
  if (state === null) return;
  const started = phase === 'train' ? (store.rounds.get(runId, round)?.startSha256 ?? null) : null;
  const pinned = phase === 'train' ? started : (known?.finalStateSha256 ?? null);
  if (pinned !== null && pinned !== state.sha256 && asksForWork(phase)) throw exchanged(round);
  if (round === 0 && phase === 'train' && frozenBaseDelta.length > 0)
    throw broken('The first round of the run starts from weights that its contract does not know.');
}

/** Of a run that this site took part in: with what its round ended, as far as the coordinator showed it. */
function resultOf(store: ReadOnlyStore, runId: string, round: number): string | null {
  const next = store.rounds.get(runId, round + 1)?.startSha256;
  const rounds = runConfigSchema.safeParse(store.runs.get(runId)?.config).data?.rounds;
  return next ?? (round + 1 === rounds ? (store.contracts.pinsOf(runId)?.finalStateSha256 ?? null) : null);
}

const asksForWork = (phase: ManifestBody['phase']) => phase === 'train' || phase === 'evaluate';

const exchanged = (round: number) =>
  broken(
    `The coordinator exchanged the shared model of round ${round + 1} after the round had begun; this site answers for one model a round.`,
  );

/** The answer at the end is about one state. */
function pinsFinalState(store: Store, { runId, phase, state }: ManifestBody): boolean {
  if (phase !== 'evaluate' || state === null) return true;
  store.contracts.pinFinalState(runId, state.sha256);
  return store.contracts.pinsOf(runId)?.finalStateSha256 === state.sha256;
}

/** Settings that were stored by an older version lack the newest ones, which then have their defaults. */
function sameSettings(stored: unknown, configSha256: string): boolean {
  const parsed = runConfigSchema.safeParse(stored);
  return parsed.success && hashJson(parsed.data) === configSha256;
}

const versions = 'Ask the coordinator; both sides must run compatible versions of Anneal.';

const broken = (message: string, action?: string) =>
  new AppError('CONTRACT_BROKEN', message, action === undefined ? {} : { action });

function differenceOf(plan: RoundPlan, due: RoundPlan): keyof RoundPlan | null {
  const exact = ['stage', 'mode', 'rank', 'trains', 'sends'] as const;
  const wrong = exact.find((key) => plan[key] !== due[key]);
  if (wrong !== undefined) return wrong;
  const close = ['proximal', 'learningRateFactor'] as const;
  return close.find((key) => Math.abs(plan[key] - due[key]) > roundingShare * due[key]) ?? null;
}

/** What becomes of a run here. */
export type Verdict =
  | { type: 'approved' }
  /** A person has to decide. */
  | { type: 'approvalMissing' }
  /** A person has decided against it. */
  | { type: 'declinedHere'; reason: string }
  /** @property again whether it may be allowed later, without anybody doing anything */
  | { type: 'refused'; error: ErrorReport; again: boolean };

/**
 * Keeps the contract, and what an approval within limits covers.
 * @param contract derived by this site itself, and its hash
 * @param options `automatic`: approve what the policy allows without a person
 */
export function judge(
  store: Store,
  manifest: ManifestBody,
  { contract, sha256 }: { contract: Contract; sha256: string },
  { base, automatic, now }: { base: BaseFacts; automatic: boolean; now: Date },
): Verdict {
  if (sha256 !== manifest.contractSha256)
    return refused(
      broken('The contract of the run is not the one that follows from its settings.', versions),
    );
  store.contracts.keep({ runId: manifest.runId, sha256, document: contract });
  const clock = clockFault(store);
  // Limits of an approval would last longer, too.
  if (clock !== null) return refused(clock, true);
  if (!pinsFinalState(store, manifest)) return refused(exchanged(manifest.round));
  const policy = policyOrFault(store);
  if (policy instanceof AppError) return refused(policy);
  const refusals = refusalsOf(contract, policy, base);
  if (refusals.length > 0) return refused(policyRefused(refusals));
  const fault = contributorsFault(manifest, Math.max(policy.minContributors, contract.minContributors));
  if (fault !== null) return refused(fault);
  const until = quietUntil(policy, now, siteTimeZone(store));
  if (until !== null && manifest.phase === 'train') return refused(quiet(until), true);
  // Nobody is no second person.
  const alone = automatic && !policy.twoPersonApproval;
  return decisionOn(store, manifest.runId, contract, sha256, { automatic: alone, now });
}

const refused = (error: AppError, again = false): Verdict => ({
  type: 'refused',
  error: error.toReport(),
  again,
});

const quiet = (until: string) =>
  new AppError('POLICY_REFUSED', `This site has quiet hours until ${until}.`, {
    action: 'Nothing to do: it goes on by itself then.',
  });

/** The state that a run's seed gives has no contributors: it is held against the seed instead (round-state.ts). */
function contributorsFault(
  { round, phase, contributors, state, config }: ManifestBody,
  least: number,
): AppError | null {
  const isFresh = round === 0 && phase === 'train' && startStateOf(config) === null;
  if (state === null || !asksForWork(phase) || isFresh) return null;
  if ((contributors ?? 0) >= least) return null;
  return new AppError(
    'POLICY_REFUSED',
    `The shared model was made by ${contributors ?? 0} contributing sites; this site asks for at least ${least}.`,
  );
}

function decisionOn(
  store: Store,
  runId: string,
  contract: Contract,
  sha256: string,
  { automatic, now }: { automatic: boolean; now: Date },
): Verdict {
  // What a person declined is declined whatever the run is called. An approval holds for one run: a second one of the very
  // same would ask the same questions again, and draw the noise that hid the answers of the first anew.
  const said = store.decisions.newestOn(sha256);
  if (said?.kind === 'declined') return { type: 'declinedHere', reason: said.reason ?? '' };
  const decided = store.decisions.newestOfRun(runId, sha256);
  if (
    decided?.kind === 'approved' ||
    (decided?.kind === 'covered' && stillStands(store, decided.coveredBy, now))
  )
    return { type: 'approved' };
  for (const row of store.decisions.standing()) {
    const standing = readStanding(row);
    if (standing === null) continue;
    const others = store.decisions.runsCoveredBy(row.id);
    others.delete(runId);
    if (!coverageOf(standing, contract, { runsBefore: others.size, at: now.toISOString() }).covers) continue;
    recordDecision(store, {
      runId,
      contractSha256: sha256,
      kind: 'covered',
      coveredBy: row.id,
      actor: 'anneal',
    });
    return { type: 'approved' };
  }
  if (!automatic) return { type: 'approvalMissing' };
  recordDecision(store, { runId, contractSha256: sha256, kind: 'approved', actor: 'automatic' });
  return { type: 'approved' };
}

/**
 * In what a contract goes beyond what people approved last, within limits or as a run; nothing when they never did.
 */
export function beyondEarlier(store: ReadOnlyStore, contract: Contract): Excess[] {
  const [standing] = store.decisions.standing();
  const approved = store.decisions.list().find(({ kind }) => kind === 'approved');
  const newest = standing !== undefined && standing.id > (approved?.id ?? 0) ? standing : approved;
  if (newest === undefined) return [];
  const granted =
    newest.kind === 'approved'
      ? contractSchema.safeParse(store.contracts.bySha(newest.contractSha256)?.document).data
      : readStanding(newest)?.granted;
  return granted === undefined ? [] : asksForMore(granted, contract);
}

/** Limits that a person took back, or that have expired, cover no further round either. */
function stillStands(store: Store, id: number | null, now: Date): boolean {
  const row = id === null ? null : store.decisions.get(id);
  const standing = row === null || row.endedAt !== null ? null : readStanding(row);
  return standing !== null && (standing.until === null || now.toISOString() < standing.until);
}

/** Null for one of a version that knew other limits: what cannot be read covers nothing, and a person is asked. */
const readStanding = ({ standing }: DecisionRecord): StandingApproval | null =>
  standingApprovalSchema.safeParse(standing).data ?? null;

/**
 * Runs of which nothing may leave any more, among those that are not over: a person declined, or the policy refuses
 * what it allowed before. What it says about the base model is not asked here.
 */
export function disallowedAmong(store: ReadOnlyStore, runIds: readonly string[]): string[] {
  if (runIds.length === 0) return [];
  const policy = policyOrFault(store);
  return runIds.filter((runId) => {
    const contract = store.contracts.get(runId);
    if (contract === null) return false;
    if (policy instanceof AppError) return true;
    if (store.decisions.newestOn(contract.sha256)?.kind === 'declined') return true;
    return refusalsOf(contractSchema.parse(contract.document), policy, null).length > 0;
  });
}

type Decision = Parameters<Store['decisions']['append']>[0];

export function recordDecision(store: Store, decision: Decision): void {
  const { actor, kind, runId, contractSha256, coveredBy, reason, standing } = decision;
  const details = { runId, contract: contractSha256 };
  store.transaction(() => {
    const { id } = store.decisions.append(decision);
    store.audit.append({
      actor,
      action: `run-${kind}`,
      details: {
        ...{ ...details, decision: id },
        ...(coveredBy == null ? {} : { coveredBy }),
        ...(reason == null ? {} : { reason }),
        ...(standing == null ? {} : { standing: hashJson(standing) }),
      },
    });
  });
}

/** Approvals of versions before the contract are void: they did not say what they were for. */
export function voidOldApproval(store: Store): void {
  const key = 'site.approval';
  if (!store.settings.has(key)) return;
  store.transaction(() => {
    store.settings.remove(key);
    store.audit.append({
      actor: 'anneal',
      action: 'approval-void',
      details: { reason: 'approvals are for one contract now; this one named none' },
    });
  });
}
