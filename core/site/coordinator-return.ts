/**
 * What a site does for a coordinator whose store went back in time (decision 0016): it delivers again what it has delivered, the
 * very same bytes where they may still leave. Only where the repeated rounds come out differently it takes part in them anew;
 * so often at most, and never where this site adds noise, because noise that is drawn twice can be averaged.
 */
import { z } from 'zod';
import { preparingRounds } from '../config/run-config.ts';
import { hasLostConsent, isOutdated } from '../consent/cohort.ts';
import { assertConsentsHold } from '../consent/site-clock.ts';
import { countSteps } from '../engine/batches.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ReadOnlyStore, Store } from '../store/store.ts';
import { chunkBytes, type ManifestBody } from '../transport/messages.ts';
import type { RoundContext } from './round-state.ts';
import type { SitePorts } from './site-node.ts';
import { addsNoise, forgetUpdate, saysLoss, updateLost } from './site-records.ts';

/** How often the rounds of one run may be asked for again with other states than before. */
export const mostReturns = 3;

const returnSchema = z.object({
  runId: z.string(),
  /** The first round that comes again; those behind it may start from another state than before, each once. */
  from: z.int(),
  returns: z.int(),
  exchanged: z.array(z.int()),
});
type Return = z.infer<typeof returnSchema>;

/** Of an earlier version, which kept the newest run's alone: going back in two runs in turns began each count anew. */
const oldSetting = 'site.coordinator-return';
const settingOf = (runId: string) => `${oldSetting}.${runId}`;
function known(store: Pick<ReadOnlyStore, 'settings'>, runId: string): Return | null {
  const kept = store.settings.get(settingOf(runId), returnSchema);
  if (kept !== null) return kept;
  const old = store.settings.get(oldSetting, returnSchema);
  return old?.runId === runId ? old : null;
}
const keep = (store: Store, back: Return): void => store.settings.set(settingOf(back.runId), back);

/** What is settled of the rounds that come again is open again; where this site adds noise only what can be sent as it was. */
export function repeatRounds(store: Store, siteId: string, { runId, round, phase }: ManifestBody): void {
  if (phase !== 'train' || store.runs.get(runId) === null) return;
  const noisy = addsNoise(store, runId);
  const before = known(store, runId);
  // Where nothing came out differently nothing was exchanged, and the coordinator may be restored as often as it likes.
  const returns = before === null ? 1 : before.returns + (before.exchanged.length > 0 ? 1 : 0);
  store.transaction(() => {
    const again = store.roundSites
      .listOfRun(runId)
      .filter((row) => row.siteId === siteId && row.round >= round && row.status !== 'working')
      .filter((row) => row.status !== 'announced')
      .filter((row) => !noisy || updateOf(store, { runId, siteId, round: row.round }) !== null);
    for (const row of again) store.roundSites.upsert({ ...keyOf(row), status: 'working', reason: null });
    const from = Math.min(round, before?.from ?? round);
    keep(store, { runId, from, returns, exchanged: [] });
    const rounds = again.map((row) => row.round);
    store.audit.append({
      actor: 'coordinator',
      action: 'rounds-repeated',
      details: { runId, from: round, rounds },
    });
  });
}

const keyOf = ({ runId, round, siteId }: { runId: string; round: number; siteId: string }) => ({
  ...{ runId, round, siteId },
});

/** This site's update of a round, while its file is kept. */
function updateOf(
  store: ReadOnlyStore,
  { runId, round, siteId }: Pick<RoundContext, 'runId' | 'round' | 'siteId'>,
) {
  const row = store.roundSites.get(runId, round, siteId);
  if (row === null || row.updateSha256 === null || row.sizeBytes === null || row.examples === null)
    return null;
  const held = store.adapters.get(row.updateSha256);
  return held?.kind === 'update' && held.runId === runId && held.round === round ? row : null;
}

/**
 * What was delivered of a repeated round is not kept here any more, and may not be made anew where this site adds noise: the
 * coordinator, which knows nothing of it, need not wait. @returns whether there was something to say
 */
export function declineUnkept(
  store: Store,
  ports: Pick<SitePorts, 'enqueue'>,
  context: Pick<RoundContext, 'runId' | 'round' | 'siteId'>,
): boolean {
  const { runId, round } = context;
  const back = known(store, runId);
  if (back === null || round < back.from || !addsNoise(store, runId)) return false;
  if (updateOf(store, context) !== null) return false;
  ports.enqueue({ type: 'declined', body: { runId, round, reason: updateLost } });
  return true;
}

/**
 * Sends the update of a round once more that was delivered before the coordinator went back.
 * @returns `nothing` when there is none, or when it may not leave any more and the round is trained anew; `settled` when it may
 * not be trained anew either
 */
export function deliverAgain(
  store: Store,
  blobs: Pick<BlobStore, 'has'>,
  ports: Pick<SitePorts, 'enqueue'>,
  context: Pick<RoundContext, 'runId' | 'round' | 'siteId' | 'config'>,
): 'announced' | 'settled' | 'nothing' {
  const { runId, round, siteId, config } = context;
  const back = known(store, runId);
  if (back === null || round < back.from) return 'nothing';
  const row = updateOf(store, context);
  if (row === null) return 'nothing';
  return store.transaction(() => {
    assertConsentsHold(store);
    const cohort = store.cohorts
      .byRun(runId)
      .find((one) => one.round === round && one.sha256 === row.cohortSha256);
    const mayLeave =
      blobs.has(row.updateSha256!) &&
      cohort !== undefined &&
      !hasLostConsent(store, cohort.id) &&
      !isOutdated(store, cohort.id);
    if (!mayLeave) {
      // Noise that is drawn again can be averaged; class means without a person, subtracted from those with them, are that person's.
      if (config.privacy?.at === 'site' || round < preparingRounds(config)) {
        const reason = 'What was delivered may not leave again.';
        store.roundSites.upsert({ runId, round, siteId, status: 'rejected', reason });
        ports.enqueue({ type: 'declined', body: { runId, round, reason } });
        return 'settled';
      }
      forgetUpdate(store, row, 'cannot be delivered again');
      return 'nothing';
    }
    store.roundSites.upsert({ runId, round, siteId, status: 'announced', reason: null });
    const update = { sha256: row.updateSha256!, sizeBytes: row.sizeBytes!, chunkBytes };
    const examples = row.examples!;
    const steps = countSteps({ ...config.training, examples });
    const meanLoss = saysLoss(config) ? row.meanLoss : null;
    store.audit.append({
      actor: 'site',
      action: 'update-announced',
      details: { runId, round, update: update.sha256, cohort: row.cohortSha256, again: true },
    });
    ports.enqueue({ type: 'announce', body: { runId, round, update, examples, meanLoss, steps } });
    return 'announced';
  });
}

/** Counts that were sent before are sent once more as they were: other noise in them would tell more. */
export function evaluateAgain(
  store: Store,
  ports: Pick<SitePorts, 'flush'>,
  { runId, round, state }: Pick<RoundContext, 'runId' | 'round' | 'state'>,
): void {
  const back = known(store, runId);
  if (back === null || round < back.from) return;
  if (store.outbox.repeat('evaluation', state.sha256) > 0) ports.flush();
}

/**
 * The state of a repeated round is another one than before: then the round begins anew here, within limits. Otherwise nothing
 * changes, and the manifest is refused as one that exchanges a state.
 */
export function exchangeState(store: Store, siteId: string, manifest: ManifestBody): void {
  const { runId, round, phase, state } = manifest;
  const back = known(store, runId);
  if (state === null || back === null || back.returns > mostReturns || addsNoise(store, runId)) return;
  if (phase === 'evaluate') {
    const pinned = store.contracts.pinsOf(runId)?.finalStateSha256 ?? null;
    const mark = round + 1;
    if (pinned === null || pinned === state.sha256 || back.exchanged.includes(mark)) return;
    store.transaction(() => {
      store.contracts.unpinFinalState(runId);
      note(store, back, mark, state.sha256);
    });
    return;
  }
  const before = store.rounds.get(runId, round);
  if (phase !== 'train' || round < back.from || before === null || before.startSha256 === state.sha256)
    return;
  if (back.exchanged.includes(round)) return;
  store.transaction(() => {
    const row = store.roundSites.get(runId, round, siteId);
    if (row !== null)
      forgetUpdate(store, row, 'the coordinator went back and the round begins with another state');
    const frozenBaseParts = manifest.frozenBaseDelta.map(({ sha256 }) => sha256);
    store.rounds.update(runId, round, { startSha256: state.sha256, frozenBaseParts });
    note(store, back, round, state.sha256);
  });
}

function note(store: Store, back: Return, round: number, state: string): void {
  keep(store, { ...back, exchanged: [...back.exchanged, round] });
  const details = { runId: back.runId, round, state };
  store.audit.append({ actor: 'coordinator', action: 'state-exchanged', details });
}
