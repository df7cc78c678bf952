/**
 * A site: runs the effects that core/site/round-reducer.ts decides on, and tells it what came of them. What happens
 * follows from two things only, the retained manifest and the store. So a site that was killed, was away, or got a manifest
 * twice finds its work again by itself.
 */
import { z } from 'zod';
import { hasLostConsent, isOutdated } from '../consent/cohort.ts';
import { establishTimeZone } from '../consent/site-zone.ts';
import type { TrainProgress } from '../engine/trainer-protocol.ts';
import { createCatalogue } from '../models/catalogue.ts';
import { AppError, type ErrorReport, toAppError } from '../shared/errors.ts';
import { restoredNote } from '../store/restored.ts';
import { collectBlobs, collectRun } from '../store/retention.ts';
import { createCryptographicNoise } from '../strategy/privacy/gaussian-noise.ts';
import { type ManifestBody, shortReason } from '../transport/messages.ts';
import { createAlarms } from './alarms.ts';
import { checkManifest, disallowedAmong, voidOldApproval } from './approval.ts';
import {
  declineUnkept,
  deliverAgain,
  evaluateAgain,
  exchangeState,
  repeatRounds,
} from './coordinator-return.ts';
import { createExamination } from './examination.ts';
import { consentsStandBehind, countsKeptBack, takeBackCounts } from './may-leave.ts';
import { establishPolicy } from './policy.ts';
import { restoredProblem } from './restored-words.ts';
import { type Effect, initialState, reduce, type SiteEvent, type Step, trains } from './round-reducer.ts';
import { createRoundStates, type RoundContext } from './round-state.ts';
import { announceUpdate, evaluateState, type StepControl, trainRound } from './round-worker.ts';
import type { SiteNode, SiteOptions } from './site-node.ts';
import {
  announcedRuns,
  discardWithdrawn,
  isSettling,
  recordReceipt,
  recordRun,
  type TrainedRound,
  takeBackDamaged,
  takeBackUpdates,
} from './site-records.ts';
import { tellWithdrawals } from './withdrawal-notices.ts';

export type { SiteNode, SiteOptions } from './site-node.ts';

type StepEffect = Extract<Effect, { type: Step }>;

const retryAfterMs = 5_000;
/** A site that missed more rounds has the next start sweep up behind it. */
const roundsLookedAt = 8;
/** Failures of a step that say something about the coordinator or the policy. */
const refusing: ReadonlySet<string> = new Set(['CONTRACT_BROKEN', 'POLICY_REFUSED', 'POLICY_CHANGED']);
const pausedSchema = z.boolean();
const withdrawalWaits = () =>
  new AppError(
    'DISK_FULL',
    'The disk is full, and the room that is left is for withdrawals: nothing is trained here.',
    {
      action:
        'Free some space on the disk that holds the data folder; rounds go on by themselves then. If a withdrawal was refused, record it again.',
    },
  );

export function createSite(options: SiteOptions): SiteNode {
  const { siteId, siteName, store, ports, logger, catalogue = createCatalogue() } = options;
  const states = createRoundStates({ ...options, loadBase: (baseId) => catalogue.load(baseId) });
  const drawn = createCryptographicNoise();
  const { noise = drawn, answerNoise = drawn } = options;
  const worker = { ...options, states, noise, answerNoise };
  const restored = () => {
    const note = restoredNote(store);
    return note === null ? null : restoredProblem(note).toReport();
  };
  const isPaused = store.settings.get('site.paused', pausedSchema) ?? false;
  let state = initialState(siteId, isPaused, restored());
  let progress: TrainProgress | null = null;
  /** What the steps of the work in progress hand on to each other. */
  let work: { context: RoundContext; cohortId?: number; trained?: TrainedRound } | null = null;
  let abort = new AbortController();
  /** One after the other, those that were ended too: two rounds never share the trainer or the work folder. */
  let steps = Promise.resolve();
  let retryTimer: NodeJS.Timeout | undefined;
  /** Somebody withdraws, and it could not be written down yet; or the next withdrawal would find no room. */
  let isShort = false;
  const examination = createExamination({ ...options, catalogue });
  const alarms = createAlarms(store, {
    onConsent: () => dispatch({ type: 'consentChanged' }),
    // Work that is under way stops, and goes on from its checkpoint after them.
    onQuietHours: () => dispatch({ type: 'decided' }),
    onClock: () => dispatch({ type: 'decided' }),
    onError: (error) => logger.warn({ error }, 'the clock was not looked at'),
    everyMs: options.clockEveryMs,
  });
  const events: SiteEvent[] = [];
  let isDeciding = false;

  function dispatch(event: SiteEvent): void {
    events.push(event);
    if (isDeciding) return;
    isDeciding = true;
    try {
      for (let next = events.shift(); next !== undefined; next = events.shift()) {
        const decision = reduce(state, next);
        state = decision.state;
        perform(decision.effects);
      }
    } finally {
      isDeciding = false;
    }
    if (state.phase !== 'closed') options.onChange();
  }

  function perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      try {
        execute(effect);
      } catch (thrown) {
        fail(effect.type, state.ticket, thrown);
        return;
      }
    }
  }

  function fail(effect: Effect['type'], ticket: number, thrown: unknown): void {
    const error = toAppError(thrown).toReport();
    const { runId, round } = state.manifest ?? {};
    if (state.manifest !== null && refusing.has(error.code)) recordRefusal(state.manifest, error);
    logger.warn({ error: thrown, effect, runId, round, code: error.code }, 'round not finished');
    dispatch({ type: 'failed', ticket, effect, error });
  }

  /** A note for people: on a full disk the refusal holds without it. */
  function recordRefusal(manifest: ManifestBody, error: ErrorReport): void {
    try {
      examination.recordRefusal(manifest, error);
    } catch (failure) {
      logger.warn({ error: failure, runId: manifest.runId }, 'a refusal was not written down');
    }
  }

  function execute(effect: Effect): void {
    switch (effect.type) {
      case 'recordRun':
        recordRun(store, effect.manifest);
        forgetOldRounds(effect.manifest);
        break;
      case 'discardWithdrawn':
        discard();
        break;
      case 'examine':
        void examine(effect.manifest, effect.ticket);
        break;
      case 'decline': {
        const { runId, round, phase } = effect.manifest;
        // An update that is on its way counts, also where the site is paused meanwhile: nobody is to give up waiting for it.
        const row = phase === 'train' ? store.roundSites.get(runId, round, siteId) : null;
        if (row?.status === 'announced') break;
        ports.enqueue({ type: 'declined', body: { runId, round, reason: shortReason(effect.reason) } });
        ports.flush();
        break;
      }
      case 'takeBackDisallowed':
        for (const runId of disallowedAmong(store, announcedRuns(store))) takeBack(runId);
        break;
      case 'takeBackAll':
        for (const runId of announcedRuns(store)) takeBack(runId);
        break;
      case 'takeBack':
        takeBack(effect.manifest.runId);
        break;
      case 'stop':
        clearTimeout(retryTimer);
        abort.abort();
        abort = new AbortController();
        break;
      case 'scheduleRetry':
        clearTimeout(retryTimer);
        retryTimer = setTimeout(() => dispatch({ type: 'retryDue' }), retryAfterMs);
        break;
      default:
        startStep(effect);
    }
  }

  async function examine(manifest: ManifestBody, ticket: number): Promise<void> {
    try {
      const now = options.now?.() ?? new Date();
      alarms.watchQuietHours(now);
      dispatch({ ...(await examination.verdictOn(manifest, now)), ticket });
    } catch (thrown) {
      const error = toAppError(thrown);
      if (error.code === 'MODEL_UNKNOWN') dispatch({ type: 'baseMissing', ticket, error: error.toReport() });
      else if (ticket === state.ticket) fail('examine', ticket, thrown);
    }
  }

  /** Updates and states that nobody asks for any more; those of still older rounds went with the rounds behind them. */
  function forgetOldRounds({ runId, round }: ManifestBody): void {
    collectRun(store, options.blobs, runId, Math.max(0, round - roundsLookedAt)).catch((error) =>
      logger.warn({ error, runId }, 'files of earlier rounds not deleted'),
    );
  }

  function takeBack(runId: string): void {
    deleteFiles(
      takeBackUpdates(store, ports, runId),
      'files not deleted after a run was declined or refused',
    );
  }

  function deleteFiles(files: readonly string[], failure: string): void {
    collectBlobs(store, options.blobs, files).catch((error) => logger.warn({ error }, failure));
  }

  function discard(): void {
    // Before anything is sent: what waits in the outbox may be what is taken back.
    const files = discardWithdrawn(store, ports);
    const kept = takeBackCounts(store);
    if (tellWithdrawals(store, ports)) ports.flush();
    const { manifest } = state;
    const isOf = ({ runId, stateSha256 }: (typeof kept)[number]) =>
      runId === manifest?.runId && stateSha256 === manifest.state?.sha256;
    if (manifest !== null && kept.some(isOf)) declineCounts(manifest);
    deleteFiles(files ?? [], 'files not deleted after a withdrawal');
    const isBusy = state.phase === 'training' || state.phase === 'announcing';
    const cohortId = isBusy ? work?.cohortId : undefined;
    const stands = (id: number) => !hasLostConsent(store, id) && !isOutdated(store, id);
    if (files !== null || (cohortId !== undefined && !stands(cohortId))) dispatch({ type: 'discarded' });
    if (manifest !== null) alarms.watchConsent(manifest.config.purpose);
  }

  /** Where nothing but counts is waited for: who trains delivers all the same. */
  function declineCounts(manifest: ManifestBody): void {
    if (trains(manifest, siteId)) return;
    const { runId, round } = manifest;
    ports.enqueue({ type: 'declined', body: { runId, round, reason: countsKeptBack } });
    ports.flush();
  }

  function startStep(effect: StepEffect): void {
    const { manifest, ticket } = effect;
    const { signal } = abort;
    const control: StepControl = {
      signal,
      onActivity(activity, step) {
        if (signal.aborted) return;
        progress = step;
        if (activity !== state.activity) dispatch({ type: 'began', ticket, activity });
        if (step !== null) options.onProgress({ runId: manifest.runId, round: manifest.round, ...step });
      },
    };
    steps = steps.then(async () => {
      if (signal.aborted) return;
      try {
        if (isShort) throw withdrawalWaits();
        dispatch(await takeStep(effect, control));
      } catch (thrown) {
        if (!signal.aborted) fail(effect.type, ticket, thrown);
      }
    });
  }

  async function takeStep({ type, manifest, ticket }: StepEffect, control: StepControl): Promise<SiteEvent> {
    if (type === 'fetch') {
      const { runId, config, round, plan, frozenBaseDelta } = manifest;
      const baseId = await catalogue.resolve(config.baseId, config.baseSha256);
      const isLast = manifest.phase === 'evaluate';
      const what = { runId, siteId, config, baseId, round, plan, state: manifest.state!, frozenBaseDelta };
      const context = { ...what, isLast };
      work?.trained?.held[Symbol.dispose]();
      work = { context };
      await states.fetch(context, control.signal, () => control.onActivity('downloading', null));
      return { type: 'fetched', ticket };
    }
    const current = work!;
    const { context } = current;
    if (type === 'evaluate') {
      evaluateAgain(store, ports, context);
      await evaluateState(worker, context, context.isLast, control);
      const counts = { runId: context.runId, stateSha256: context.state.sha256 };
      if (!consentsStandBehind(store, counts)) declineCounts(manifest);
      return { type: 'evaluated', ticket };
    }
    if (type === 'announce') {
      using _held = current.trained!.held;
      return (await announceUpdate(worker, context, current.trained!))
        ? { type: 'announced', ticket }
        : { type: 'discarded' };
    }
    const status = store.roundSites.get(context.runId, context.round, siteId)?.status ?? 'working';
    if (status === 'received' && declineUnkept(store, ports, context)) ports.flush();
    if (status !== 'working') return { type: status === 'announced' ? 'announced' : 'settled', ticket };
    const again = deliverAgain(store, options.blobs, ports, context);
    if (again !== 'nothing') {
      if (again === 'announced') ports.flush();
      return { type: again, ticket };
    }
    current.trained = await trainRound(worker, context, control, (cohortId) => {
      current.cohortId = cohortId;
    });
    return { type: 'trained', ticket };
  }

  /** Also through what an earlier round of the run left here. */
  function mayUse(subjectId: number): boolean {
    const { phase, manifest } = state;
    // Whose images are being counted is in no row yet.
    if (phase === 'fetching' || phase === 'evaluating') return true;
    return store.cohorts.bySubject(subjectId).some(({ runId }) => runId === manifest?.runId);
  }

  voidOldApproval(store);
  establishPolicy(store);
  establishTimeZone(store);
  const onData = () => dispatch({ type: 'consentChanged' });
  const listening = [
    store.consentEvents.onAppend(onData),
    store.images.onCorrect(onData),
    // A withdrawal that waits for room on the disk: what is being trained ends before it is written down.
    store.onShortage((short) => {
      isShort = short;
      if (short) dispatch({ type: 'discarded' });
    }),
  ];
  dispatch({ type: 'started' });

  return {
    siteId,
    siteName,
    get activity() {
      return state.activity;
    },
    get progress() {
      return state.activity === 'training' ? progress : null;
    },
    get problem() {
      return state.problem;
    },
    get manifest() {
      return state.manifest;
    },
    get notice() {
      const { manifest } = state;
      if (manifest !== null && manifest.paused !== null) return manifest.paused;
      if (manifest === null || manifest.phase !== 'train' || trains(manifest, siteId)) return null;
      return (
        `The coordinator drew other sites for round ${manifest.round + 1}. ` +
        'This site only evaluates the shared model and waits for the next round.'
      );
    },
    standingChanged() {
      dispatch({ type: 'restored', report: restored() });
    },
    coordinatorReturned(manifest) {
      repeatRounds(store, siteId, manifest);
    },
    receiveManifest(manifest) {
      try {
        exchangeState(store, siteId, manifest);
        checkManifest(manifest, store);
      } catch (thrown) {
        const { runId, round } = manifest;
        const error = toAppError(thrown).toReport();
        logger.warn({ error: thrown, runId, round }, 'manifest refused');
        recordRefusal(manifest, error);
        dispatch({ type: 'manifestRefused', manifest, error });
        return;
      }
      dispatch({ type: 'manifestReceived', manifest });
    },
    receiveReceipt(receipt) {
      if (!isSettling(store, receipt)) {
        const { runId, round, reason } = receipt;
        logger.info({ runId, round, reason }, 'the update is announced again later');
        return false;
      }
      if (recordReceipt(store, siteId, receipt))
        dispatch({ type: 'receipt', accepted: receipt.accepted, reason: receipt.reason });
      return true;
    },
    updateDamaged(updateSha256) {
      const files = takeBackDamaged(store, ports, updateSha256);
      if (files === null) return;
      ports.flush();
      deleteFiles(files, 'files not deleted after one was found damaged');
      dispatch({ type: 'discarded' });
    },
    refuseUnreadable(error) {
      examination.recordUnreadable(error);
      dispatch({ type: 'unreadable', error });
    },
    decided() {
      dispatch({ type: 'decided' });
    },
    async withoutSubject(subjectId, erase) {
      const isUsed = mayUse(subjectId);
      // A round that does without the subject goes on meanwhile.
      if (!isUsed && state.phase === 'training') return erase(false);
      if (isUsed) dispatch({ type: 'discarded' });
      // Behind what was stopped a moment ago and has not ended yet; what comes next waits for it.
      const done = steps.then(() => erase(true));
      steps = done.then(
        () => {},
        () => {},
      );
      return done;
    },
    pause() {
      try {
        store.settings.set('site.paused', true);
      } finally {
        // Also on a full disk, until the next start.
        dispatch({ type: 'paused' });
      }
    },
    resume() {
      store.settings.set('site.paused', false);
      dispatch({ type: 'resumed' });
    },
    async close() {
      for (const stop of listening) stop();
      alarms.close();
      dispatch({ type: 'closed' });
      await steps;
    },
  };
}
