/**
 * A site's state machine. What it does follows from two things only: the retained manifest and the store.
 * So a site that was killed, was away, or got a manifest twice finds its work again by itself.
 */
import { z } from 'zod';
import type { TrainProgress } from '../engine/trainer-protocol.ts';
import { createCatalogue } from '../models/catalogue.ts';
import { AppError, type ErrorReport, toAppError } from '../shared/errors.ts';
import { collectBlobs } from '../store/retention.ts';
import { createCryptographicNoise } from '../strategy/privacy/gaussian-noise.ts';
import { type ManifestBody, shortReason } from '../transport/messages.ts';
import { evaluateState } from './evaluate-state.ts';
import { checkManifest } from './manifest-check.ts';
import { createRoundStates } from './round-state.ts';
import type { RoundWorkerOptions } from './round-work.ts';
import { trainRound } from './round-worker.ts';
import type { SiteActivity, SiteNode, SiteOptions } from './site-node.ts';
import { discardWithdrawn, recordApproval, recordReceipt, recordRun, wasApproved } from './site-records.ts';

export type { SiteActivity, SiteNode, SiteOptions } from './site-node.ts';

const retryAfterMs = 5_000;
const pausedSchema = z.boolean();

export function createSite(options: SiteOptions): SiteNode {
  const { siteId, store, ports, logger, catalogue = createCatalogue() } = options;
  let manifest: ManifestBody | null = null;
  let activity: SiteActivity = 'waiting';
  let progress: TrainProgress | null = null;
  let problem: ErrorReport | null = null;
  let work: { key: string; abort: AbortController; done: Promise<void> } | null = null;
  let retryTimer: NodeJS.Timeout | undefined;
  let closed = false;
  let declined = '';

  const worker: RoundWorkerOptions = {
    store,
    blobs: options.blobs,
    trainer: options.trainer,
    ports,
    states: createRoundStates({
      store,
      blobs: options.blobs,
      ports,
      workFolder: options.workFolder,
      siteName: options.siteName,
      loadBase: (baseId) => catalogue.load(baseId),
      frozenBases: options.frozenBases,
      onDownload: () => setActivity('downloading'),
    }),
    noise: options.noise ?? createCryptographicNoise(),
    logger,
    workFolder: options.workFolder,
    siteName: options.siteName,
    compute: options.compute,
    onActivity(next, step) {
      setActivity(next, step);
      if (step !== null && manifest !== null)
        options.onProgress({ runId: manifest.runId, round: manifest.round, ...step });
    },
  };

  function setActivity(next: SiteActivity, step: TrainProgress | null = null): void {
    const changed = next !== activity;
    activity = next;
    progress = step;
    if (changed) options.onChange();
  }

  /** Whether the coordinator drew this site for the round; all sites when it draws none. */
  const trains = ({ phase, participants }: ManifestBody) =>
    phase === 'train' && (participants === null || participants.includes(siteId));

  const isPaused = () => store.settings.get('site.paused', pausedSchema) ?? false;

  function isApproved(current: ManifestBody): boolean {
    if (wasApproved(store, current)) return true;
    if (options.autoApprove !== true) return false;
    recordApproval(store, current, 'automatic');
    return true;
  }

  /** Tells the coordinator, once a round and once for the evaluation at the end, not to wait for this site. */
  function decline({ runId, phase, round }: ManifestBody, reason: string): void {
    const key = `${runId} ${phase} ${round} ${reason}`;
    if (declined === key) return;
    declined = key;
    ports.enqueue({ type: 'declined', body: { runId, round, reason: shortReason(reason) } });
    ports.flush();
  }

  function stopWork(): void {
    clearTimeout(retryTimer);
    work?.abort.abort();
    work = null;
  }

  /** Brings what the site does in line with the manifest. */
  function consider(): void {
    if (closed || manifest === null) return;
    const current = manifest;
    const needsWork = current.phase === 'train' || current.phase === 'evaluate';
    if (isPaused()) {
      stopWork();
      if (needsWork) decline(current, 'The site is paused.');
      setActivity('paused');
      return;
    }
    if (!needsWork || current.state === null) {
      stopWork();
      setActivity('waiting');
      return;
    }
    if (!isApproved(current)) {
      stopWork();
      // The others need not wait for a person here; the site joins in when it is approved.
      decline(current, 'The site has not approved this run yet.');
      setActivity('approval-needed');
      void noticeMissingBase(current);
      return;
    }
    const part = trains(current) ? 'train' : 'evaluate';
    const key = `${current.runId} ${current.phase} ${part} ${current.round} ${current.state.sha256}`;
    if (work?.key === key) return;
    const previous = work?.done ?? Promise.resolve();
    stopWork();
    const abort = new AbortController();
    // The earlier work is waited for, so that two rounds never share the trainer or the work folder.
    work = { key, abort, done: previous.then(() => doWork(current, abort.signal)) };
  }

  /** A person who is asked for approval learns at once that the base model has to be imported first. */
  async function noticeMissingBase(current: ManifestBody): Promise<void> {
    let missing: ErrorReport | null = null;
    try {
      await catalogue.resolve(current.config.baseId, current.config.baseSha256);
    } catch (thrown) {
      missing = toAppError(thrown).toReport();
    }
    if (closed || manifest !== current || activity !== 'approval-needed') return;
    clearTimeout(retryTimer);
    if (missing !== null) retryTimer = setTimeout(considerSafely, retryAfterMs);
    else if (problem?.code !== 'MODEL_UNKNOWN') return;
    if (problem?.message === missing?.message) return;
    problem = missing;
    options.onChange();
  }

  /** For callers that nobody listens to: what goes wrong is shown and tried again, and never ends the process. */
  function considerSafely(): void {
    try {
      consider();
    } catch (thrown) {
      if (manifest !== null && !closed) handleFailure(manifest, thrown);
    }
  }

  async function doWork(current: ManifestBody, signal: AbortSignal): Promise<void> {
    const { runId, config, round, plan, state, frozenBaseDelta } = current;
    if (signal.aborted || state === null) return;
    declined = '';
    try {
      const baseId = await catalogue.resolve(config.baseId, config.baseSha256);
      recordRun(store, current);
      const source = { runId, siteId, config, baseId, round, plan, state, frozenBaseDelta };
      await worker.states.fetch(source, signal);
      await evaluateState(worker, source, current.phase === 'evaluate', signal);
      if (trains(current)) await trainRound(worker, source, signal);
      problem = null;
      const row = store.roundSites.get(runId, round, siteId);
      if (!signal.aborted)
        setActivity(current.phase === 'train' && row?.status === 'announced' ? 'uploading' : 'waiting');
    } catch (thrown) {
      if (signal.aborted) return;
      handleFailure(current, thrown);
    }
  }

  function handleFailure(current: ManifestBody, thrown: unknown): void {
    const error = toAppError(thrown);
    problem = error.toReport();
    logger.warn(
      { error: thrown, runId: current.runId, round: current.round, code: error.code },
      'round not finished',
    );
    // NOT_FOUND: the coordinator has moved on, and its next manifest will say to what.
    const transient = ['BROKER_UNREACHABLE', 'BLOB_CORRUPT', 'NOT_FOUND'].includes(error.code);
    try {
      if (!transient) decline(current, error.message);
    } catch (failed) {
      // On a full disk not even that can be written; the deadline of the round ends the wait for this site.
      logger.error({ error: failed }, 'decline not recorded');
    }
    setActivity('waiting');
    options.onChange();
    // Tried again while the round is open: a broker comes back, a consent is recorded, a disk gets space.
    work = null;
    retryTimer = setTimeout(considerSafely, retryAfterMs);
  }

  function ignoreManifest(ignored: ManifestBody, error: AppError): void {
    problem = error.toReport();
    logger.warn({ error, runId: ignored.runId, round: ignored.round }, 'manifest ignored');
    try {
      // The others need not wait.
      if (ignored.phase === 'train' || ignored.phase === 'evaluate') decline(ignored, error.message);
    } catch (failed) {
      logger.error({ error: failed }, 'decline not recorded');
    }
    options.onChange();
  }

  return {
    siteId,
    siteName: options.siteName,
    get activity() {
      return activity;
    },
    get progress() {
      return progress;
    },
    get problem() {
      return problem;
    },
    get manifest() {
      return manifest;
    },
    get notice() {
      if (manifest === null || manifest.phase !== 'train' || trains(manifest)) return null;
      return (
        `The coordinator drew other sites for round ${manifest.round + 1}. ` +
        'This site only evaluates the shared model and waits for the next round.'
      );
    },
    receiveManifest(next) {
      try {
        checkManifest(next);
      } catch (thrown) {
        ignoreManifest(next, toAppError(thrown));
        return;
      }
      manifest = next;
      try {
        recordRun(store, next);
      } catch (thrown) {
        problem = toAppError(thrown).toReport();
        logger.error({ error: thrown }, 'manifest not recorded');
      }
      options.onChange();
      considerSafely();
    },
    receiveReceipt(receipt) {
      if (!recordReceipt(store, siteId, receipt)) return;
      if (!receipt.accepted) {
        problem = new AppError(
          'UPDATE_REJECTED',
          receipt.reason ?? 'The coordinator did not accept this update.',
        ).toReport();
      }
      // It may be at work on the next round already.
      if (activity === 'uploading') setActivity('waiting');
      options.onChange();
    },
    approve(runId) {
      if (manifest === null || manifest.runId !== runId)
        throw new AppError('NOT_FOUND', 'This run is not open any more.');
      recordApproval(store, manifest, 'site staff');
      consider();
    },
    pause() {
      store.settings.set('site.paused', true);
      consider();
      setActivity('paused');
    },
    resume() {
      store.settings.set('site.paused', false);
      setActivity('waiting');
      consider();
    },
    consentWithdrawn(pseudonym) {
      if (manifest === null || manifest.phase !== 'train') return;
      const { runId, round } = manifest;
      const files = discardWithdrawn(store, ports, { runId, round, siteId, pseudonym });
      if (files === null) return;
      collectBlobs(store, options.blobs, files).catch((error) =>
        logger.warn({ error }, 'files not deleted after a withdrawal'),
      );
      const previous = work?.done ?? Promise.resolve();
      stopWork();
      void previous.then(considerSafely);
    },
    async close() {
      closed = true;
      const last = work?.done;
      stopWork();
      await last;
    },
  };
}
