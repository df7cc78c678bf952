/** What a site writes into its store about runs, updates, receipts and withdrawals; each call is one transaction. */
import { preparingRounds, type RunConfig, runConfigSchema } from '../config/run-config.ts';
import {
  cohortInProgress,
  type FrozenCohort,
  freezeCohort,
  hasLostConsent,
  isOutdated,
  servesAlignment,
  trainingImages,
} from '../consent/cohort.ts';
import { assertConsentsHold } from '../consent/site-clock.ts';
import { countSteps } from '../engine/batches.ts';
import type { TrainResult } from '../engine/trainer-protocol.ts';
import { admit } from '../policy/cohort-rules.ts';
import type { RoundSiteRecord } from '../store/records.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { isPrototypeRound } from '../strategy/prototype-start.ts';
import { chunkBytes, type ManifestBody, type ReceiptBody } from '../transport/messages.ts';
import type { MadeUpdate } from './make-update.ts';
import { alignmentOfRun, onlyOlderCrops } from './older-crops.ts';
import { currentPolicy } from './policy.ts';
import type { RoundContext } from './round-state.ts';
import type { SitePorts } from './site-node.ts';

/** The site's own rows of the run and the round, which its other rows refer to. */
export function recordRun(store: Store, current: ManifestBody): void {
  const { runId, phase, round, plan, state, frozenBaseDelta, deadlineAt } = current;
  store.transaction(() => {
    if (store.runs.get(runId) === null) store.runs.insert({ id: runId, config: current.config });
    // A coordinator has one run at a time. It may have ended unseen, or be unknown to a coordinator that went back.
    for (const { id } of store.runs.unfinished().filter((run) => run.id !== runId))
      store.runs.update(id, { status: 'stopped', finishedAt: store.now() });
    const over = phase === 'finished' || phase === 'stopped';
    const status = phase === 'train' ? 'running' : phase === 'evaluate' ? 'evaluating' : phase;
    store.runs.update(runId, { status, round, finishedAt: over ? store.now() : null });
    // The last round's result is the published model, and starts no round.
    if (state !== null) {
      const startsRound = phase === 'train' || store.rounds.get(runId, round)?.startSha256 === state.sha256;
      store.modelVersions.learn({ runId, round: startsRound ? round - 1 : round, sha256: state.sha256 });
    }
    if (phase !== 'train' || state === null) return;
    const frozenBaseParts = frozenBaseDelta.map(({ sha256 }) => sha256);
    const known = store.rounds.get(runId, round);
    // A version that did not record the parts may have begun the round.
    if (known?.frozenBaseParts === null) store.rounds.update(runId, round, { frozenBaseParts });
    if (known !== null) return;
    store.rounds.insert({
      runId,
      round,
      stage: plan.stage,
      rank: plan.rank,
      trainableParameters: 0,
      startSha256: state.sha256,
      frozenBaseParts,
      deadlineAt,
    });
  });
}

/**
 * Whether a receipt ends the matter. A refusal does when the coordinator says so; one of a coordinator that does not say
 * it (an older one) when this site has seen the round end. Any other is no more than "not now", but of a run that another one
 * has taken the place of: it never goes on.
 */
export function isSettling(
  store: ReadOnlyStore,
  { accepted, kind, runId, round }: Omit<ReceiptBody, 'reason' | 'updateSha256'>,
): boolean {
  if (accepted || kind === 'final') return true;
  const run = store.runs.get(runId);
  if (run === null) return false;
  if (kind === undefined) return run.finishedAt !== null || run.round > round;
  return run.finishedAt !== null && store.runs.current() !== null;
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

/** What a round's training left, before it is announced. Files are in the blob store. */
export interface TrainedRound {
  cohort: FrozenCohort;
  result: TrainResult;
  /** Keeps the files until rows name them. */
  held: Disposable;
  update: {
    sha256: string;
    sizeBytes: number;
    /** Model values in it. */
    values: number;
    /** Hash of the state that its file needs to be understood; null when it needs none. */
    start: string | null;
    /** Hash of what the site keeps; null when it keeps nothing. */
    memory: string | null;
    clipped: MadeUpdate['clipped'];
  };
}

/**
 * The cohort is frozen anew at each start: a consent that was withdrawn meanwhile does not come back.
 * @throws AppError CLOCK_RAN_BACK | CONSENTS_CHANGED when consents can't be relied on; POLICY_REFUSED | NOT_ENOUGH_DATA when the site's policy allows no training on what is there
 */
export function freezeRoundCohort(
  store: Store,
  { runId, round, siteId, config }: RoundContext,
): FrozenCohort {
  const { purpose, classes } = config;
  const { policy } = currentPolicy(store);
  return store.transaction(() => {
    assertConsentsHold(store);
    const request = { runId, round, purpose, labels: classes, at: store.clock.latest() };
    const all = trainingImages(store, request);
    const alignment = alignmentOfRun(store, runId);
    const usable = all.filter(({ cropKind }) => servesAlignment(cropKind, alignment));
    const { refusal, images } = admit(usable, config, policy);
    if (refusal !== null) throw onlyOlderCrops(all, alignment) ?? refusal;
    store.roundSites.upsert({ runId, round, siteId, status: 'working' });
    return freezeCohort(store, request, images);
  });
}

/**
 * How many images an update says it was trained on: to the nearest multiple of k, so that comparing rounds tells nothing
 * about a single one. The coordinator weighs by this number.
 */
export function roundedCount(images: number, smallCell: number): number {
  return Math.max(smallCell, Math.round(images / smallCell) * smallCell);
}

/**
 * Whether a loss may leave. Where noise at this site hides what it trained, a loss would say it without noise: who chooses the
 * state chooses whose image the loss is about.
 */
export const saysLoss = ({ privacy }: Pick<RunConfig, 'privacy'>): boolean => privacy?.at !== 'site';

/** Digits of a training loss that leave: more would be a fingerprint of the images. */
const lossDigits = 3;

/**
 * State, local parameters and message in one transaction: a site that is killed has announced all of it or nothing.
 * @returns false, and nothing is written, when somebody in the cohort has withdrawn, or an image in it was corrected
 * @throws AppError CLOCK_RAN_BACK | CONSENTS_CHANGED; nothing is written
 */
export function recordAnnouncement(
  store: Store,
  ports: Pick<SitePorts, 'enqueue'>,
  {
    runId,
    siteId,
    round,
    plan,
    config,
  }: Pick<RoundContext, 'runId' | 'siteId' | 'round' | 'plan' | 'config'>,
  trained: TrainedRound,
): boolean {
  const { cohort, update } = trained;
  const { steps } = trained.result;
  const examples = roundedCount(trained.result.examples, config.smallCell);
  const ownLoss = Number(trained.result.meanLoss.toPrecision(lossDigits));
  // Where nothing trains there is none.
  const meanLoss = isPrototypeRound(plan) ? null : ownLoss;
  const saidLoss = saysLoss(config) ? meanLoss : null;
  // Not those that were taken: they tell how many images there are.
  const said = countSteps({ ...config.training, examples });
  const { sha256, sizeBytes, memory } = update;
  return store.transaction(() => {
    assertConsentsHold(store);
    if (hasLostConsent(store, cohort.cohortId) || isOutdated(store, cohort.cohortId)) return false;
    store.adapters.insert({
      sha256,
      runId,
      round,
      kind: 'update',
      siteId,
      rank: plan.rank,
      parameters: update.values,
      sizeBytes,
      startSha256: update.start,
      createdAt: new Date().toISOString(),
    });
    const sent = { updateSha256: sha256, cohortSha256: cohort.sha256, sizeBytes, examples, meanLoss };
    store.roundSites.upsert({ runId, round, siteId, status: 'announced', ...sent, step: steps, steps });
    if (memory !== null) {
      store.siteMemory.put({ runId, round, sha256: memory });
      store.siteMemory.prune(runId, round);
    }
    store.withdrawalNotices.keepAnnounced({
      ...{ runId, round, siteId, updateSha256: sha256, cohortSha256: cohort.sha256, sizeBytes },
    });
    auditUpdate(store, runId, round, trained);
    ports.enqueue({
      type: 'announce',
      body: {
        runId,
        round,
        update: { sha256, sizeBytes, chunkBytes },
        examples,
        meanLoss: saidLoss,
        steps: said,
      },
    });
    return true;
  });
}

function auditUpdate({ audit }: Store, runId: string, round: number, trained: TrainedRound): void {
  const { update, cohort, result } = trained;
  audit.append({
    actor: 'site',
    action: 'update-announced',
    details: {
      runId,
      round,
      update: update.sha256,
      cohort: cohort.sha256,
      images: cohort.images.length,
      // The norm itself is the site's own affair; that noise was added is what an auditor asks for.
      ...(update.clipped === null ? {} : { noiseAdded: true, clipped: update.clipped.factor < 1 }),
    },
  });
  for (const { kind, message } of result.events) {
    audit.append({ actor: 'site', action: 'training-adjusted', details: { runId, round, kind, message } });
  }
}

/**
 * Throws away what was trained on a subject whose consent was withdrawn and is not received yet, so that it is done
 * again; and what is being trained on an image that was corrected. An update that was announced may have reached the coordinator although no receipt came yet: then its cohort
 * stays in the trace, which must never say "not used" of a subject that was.
 * @returns files to delete, or null when there was nothing
 */
export function discardWithdrawn(
  store: Store,
  ports: Pick<SitePorts, 'retractAnnouncement' | 'enqueue'>,
): string[] | null {
  // Also of one that is over: whether its update counted is not known before the coordinator has answered.
  const unanswered = new Set(store.outbox.pending().map(({ runId }) => runId));
  const open = store.runs.list().filter(({ id, finishedAt }) => finishedAt === null || unanswered.has(id));
  const discarded = open.flatMap(({ id, round, status: run }) =>
    store.roundSites
      .listOfRun(id)
      .filter(
        (row) =>
          row.status === 'announced' ||
          (run === 'running' && row.round === round && row.status !== 'received'),
      )
      .map((row) => discardRound(store, ports, row))
      .filter((files) => files !== null),
  );
  return discarded.length === 0 ? null : discarded.flat();
}

/**
 * Class means that were announced are not made again without a person: the coordinator may have the first, and the difference
 * would be that person's mean face template. Nor where nobody can tell.
 */
function sendsOnce(store: ReadOnlyStore, runId: string, round: number): boolean {
  const config = runConfigSchema.safeParse(store.runs.get(runId)?.config).data;
  return config === undefined || round < preparingRounds(config);
}

export const meansAreSentOnce = 'Class means of this site may not leave any more.';

function discardRound(
  store: Store,
  ports: Pick<SitePorts, 'retractAnnouncement' | 'enqueue'>,
  { runId, round, siteId, status, reason: said, updateSha256, cohortSha256 }: RoundSiteRecord,
): string[] | null {
  // Taken back already, for good.
  if (status === 'rejected' && said === meansAreSentOnce) return null;
  const isSent = status !== 'working';
  const cohort = isSent
    ? store.cohorts.byRun(runId).find((one) => one.round === round && one.sha256 === cohortSha256)
    : cohortInProgress(store, runId, round);
  if (!cohort) return null;
  const isConsented = !hasLostConsent(store, cohort.id);
  // What has left with a wrong label stays: a coordinator that gets a round twice learns more than from its mistake.
  if (isConsented && (isSent || !isOutdated(store, cohort.id))) return null;
  return store.transaction(() => {
    if (isSent) ports.retractAnnouncement(runId, round);
    else store.cohorts.supersede(cohort.id);
    const reason = isConsented ? 'an image was corrected' : 'consent withdrawn or over';
    const files = forgetUpdate(store, { runId, round, siteId, updateSha256 }, reason);
    if (isSent && sendsOnce(store, runId, round)) {
      store.roundSites.upsert({ runId, round, siteId, status: 'rejected', reason: meansAreSentOnce });
      ports.enqueue({ type: 'declined', body: { runId, round, reason: meansAreSentOnce } });
    }
    return files;
  });
}

/** Call it in a transaction. The round is done again. @returns files to delete */
export function forgetUpdate(
  store: Store,
  {
    runId,
    round,
    siteId,
    updateSha256,
  }: Pick<RoundSiteRecord, 'runId' | 'round' | 'siteId' | 'updateSha256'>,
  reason: string,
): string[] {
  const memory = store.siteMemory.newestBefore(runId, round + 1);
  if (updateSha256 !== null) store.adapters.remove({ runId, round, siteId, sha256: updateSha256 });
  store.siteMemory.remove(runId, round);
  store.roundSites.upsert({ runId, round, siteId, status: 'working' });
  store.audit.append({ actor: 'site', action: 'round-restarted', details: { runId, round, reason } });
  return [updateSha256, memory?.round === round ? memory.sha256 : null].filter((sha256) => sha256 !== null);
}

/** Runs that are not over and of which something was announced that nobody has received yet. */
export function announcedRuns(store: ReadOnlyStore): string[] {
  return store.runs
    .unfinished()
    .filter(({ id }) => isAnnounced(store, id))
    .map(({ id }) => id);
}

/** For the coordinator. */
export const updateLost = 'The site has lost its update of this round, and may not make another one.';

const isAnnounced = (store: ReadOnlyStore, runId: string) =>
  store.roundSites.listOfRun(runId).some(({ status }) => status === 'announced');

/** Whether this site adds noise to its updates of a run; also where nobody can tell. */
export function addsNoise(store: ReadOnlyStore, runId: string): boolean {
  const config = runConfigSchema.safeParse(store.runs.get(runId)?.config).data;
  return config === undefined || config.privacy?.at === 'site';
}

/**
 * What was announced of a run that is not allowed any more, and that nobody has received yet, is not handed out. The
 * cohort stays in the trace: the coordinator may have it all the same. So where this site adds noise, the round is over for
 * it: noise that is drawn a second time can be averaged, and a coordinator chooses what is refused.
 * @returns files to delete
 */
export function takeBackUpdates(
  store: Store,
  ports: Pick<SitePorts, 'retractAnnouncement'>,
  runId: string,
): string[] {
  const announced = store.roundSites.listOfRun(runId).filter(({ status }) => status === 'announced');
  const isOver = addsNoise(store, runId);
  const reason = 'not allowed any more';
  return announced.flatMap((row) => takeBackRow(store, ports, row, { isOver, reason }));
}

function takeBackRow(
  store: Store,
  ports: Pick<SitePorts, 'retractAnnouncement'>,
  row: RoundSiteRecord,
  { isOver, reason }: { isOver: boolean; reason: string },
): string[] {
  return store.transaction(() => {
    const { runId, round, siteId } = row;
    ports.retractAnnouncement(runId, round);
    const files = forgetUpdate(store, row, reason);
    if (isOver) store.roundSites.upsert({ runId, round, siteId, status: 'rejected', reason });
    return files;
  });
}

/**
 * The file of an update is damaged here or gone, and the coordinator asks for it: the round is done again. Not where this site
 * adds noise, for the reason above: the coordinator may have a part of the first. Then it hears that it need not wait.
 * @returns files to delete; null when no open round is about this update
 */
export function takeBackDamaged(
  store: Store,
  ports: Pick<SitePorts, 'retractAnnouncement' | 'enqueue'>,
  updateSha256: string,
): string[] | null {
  const rows = store.runs
    .list()
    .filter(({ status }) => status === 'running')
    .flatMap(({ id, round }) => store.roundSites.listOfRun(id).filter((row) => row.round === round))
    .filter((row) => row.updateSha256 === updateSha256 && ['announced', 'received'].includes(row.status));
  if (rows.length === 0) return null;
  const reason = 'the file of the update was damaged on this disk';
  return rows.flatMap((row) =>
    store.transaction(() => {
      const { runId, round } = row;
      const isOver = addsNoise(store, runId);
      const files = takeBackRow(store, ports, row, { isOver, reason });
      if (isOver) ports.enqueue({ type: 'declined', body: { runId, round, reason: updateLost } });
      return files;
    }),
  );
}
