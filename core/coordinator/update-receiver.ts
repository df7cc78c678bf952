/** How a site's update comes in: announced, pulled when its turn comes, judged, answered with a receipt. */
import type { ModelState } from '../lora/model-state.ts';
import { trainableWeights } from '../models/trainable-weights.ts';
import { toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RoundSiteRecord } from '../store/records.ts';
import { collectBlobs } from '../store/retention.ts';
import type { Store } from '../store/store.ts';
import { checkUpdate } from '../strategy/check-update.ts';
import { siteStart } from '../strategy/site-rank.ts';
import { decodeUpdate, fileSizeBytes, fileValueCount, updateForm } from '../strategy/wire/wire.ts';
import { type AnnounceBody, type ReceiptBody, shortReason } from '../transport/messages.ts';
import type { RunPorts } from './ports.ts';
import { epsilonSoFar } from './privacy-spent.ts';
import type { RunLedger } from './run-ledger.ts';

export interface UpdateReceiverOptions {
  ledger: RunLedger;
  store: Store;
  blobs: BlobStore;
  ports: RunPorts;
  logger: Logger;
  /** Runs a step of the run's state machine in its turn, and looks afterwards whether the round may close. */
  step(task: () => Promise<void>): Promise<void>;
  onChange(): void;
}

export interface UpdateReceiver {
  /** Repeating an announcement changes nothing but may repeat the answer. Call it in the run's turn. */
  announced(siteId: string, body: AnnounceBody): Promise<void>;
  /** Stops every transfer; what arrived is kept. */
  stop(): void;
}

/** For differences in what a file says beside its values. */
const sizeSlackBytes = 64 * 1024;

export function createUpdateReceiver(options: UpdateReceiverOptions): UpdateReceiver {
  const { ledger, store, blobs, ports, logger } = options;
  const { runId, config, base } = ledger;
  const pulls = new Map<string, AbortController>();

  const accepted = ({ round, update }: AnnounceBody): ReceiptBody => ({
    runId,
    round,
    updateSha256: update.sha256,
    accepted: true,
  });
  const refused = (body: AnnounceBody, reason: string): ReceiptBody => ({
    ...accepted(body),
    accepted: false,
    reason,
  });

  /** The answer that is known already: the update was judged, or comes too late. */
  function settledReceipt(
    siteId: string,
    row: RoundSiteRecord | null,
    body: AnnounceBody,
  ): ReceiptBody | null {
    const isSame = row?.updateSha256 === body.update.sha256;
    if (isSame && row.status === 'received') return accepted(body);
    if (isSame && row.status === 'rejected') return refused(body, row.reason ?? 'Rejected.');
    if (!ledger.isOpen(body.round))
      return refused(body, 'The round has closed; the site takes part in the next one.');
    if (!ledger.trains(siteId, body.round))
      return refused(body, 'The site was not drawn for this round; it only evaluates.');
    if (row?.status === 'received') return refused(body, 'Another update of this site was accepted already.');
    return null;
  }

  function startPull(siteId: string, body: AnnounceBody): void {
    const key = `${siteId} ${body.update.sha256}`;
    if (pulls.has(key)) return;
    const abort = new AbortController();
    pulls.set(key, abort);
    // A transfer that fails is begun again when the site repeats its announcement.
    void ports
      .pull(siteId, body.update, abort.signal)
      .then(() => options.step(() => receive(siteId, body)))
      .catch((error) => logger.warn({ error, runId, round: body.round, siteId }, 'update not received'))
      .finally(() => pulls.delete(key));
  }

  async function receive(siteId: string, body: AnnounceBody): Promise<void> {
    const row = store.roundSites.get(runId, body.round, siteId);
    if (!ledger.isOpen(body.round) || row?.updateSha256 !== body.update.sha256) return;
    const receipt = await judge(siteId, body);
    options.onChange();
    await ports
      .sendReceipt(siteId, receipt)
      .catch((error) => logger.warn({ error, siteId }, 'receipt not sent yet'));
  }

  /** Accepts or rejects a complete update; a bad one never hurts the others. */
  async function judge(siteId: string, body: AnnounceBody): Promise<ReceiptBody> {
    const { round, update } = body;
    const start = await startOf(siteId, round);
    const verdict = await look(update.sha256, round, start);
    if (typeof verdict === 'string') {
      reject(siteId, round, verdict);
      // What is left over now is deleted when the round closes.
      await collectBlobs(store, blobs, [update.sha256]).catch((error) =>
        logger.warn({ error, runId, round }, 'rejected update not deleted'),
      );
      return refused(body, verdict);
    }
    store.transaction(() => {
      store.roundSites.upsert({ runId, round, siteId, status: 'received' });
      store.rounds.update(runId, round, { addParametersUp: verdict });
      store.audit.append({
        actor: siteId,
        action: 'update-received',
        details: { runId, round, update: update.sha256 },
      });
    });
    return accepted(body);
  }

  /** What the site's round started from; that this cannot be read is no fault of the site's. */
  async function startOf(siteId: string, round: number): Promise<ModelState> {
    const start = await ledger.readState(ledger.round(round).startSha256, round);
    return siteStart(config, ledger.nameOf(siteId), start);
  }

  /** Number of values in a good update, or what is wrong with it. */
  async function look(sha256: string, round: number, global: ModelState): Promise<number | string> {
    const plan = ledger.planOf(round);
    try {
      const bytes = await blobs.read(sha256);
      const state = decodeUpdate(bytes, 'update', { config, plan, base, start: global });
      checkUpdate(state, { base, global, plan, trained: trainableWeights(base, plan.mode, config.lastK) });
      return fileValueCount(state, updateForm({ config, plan }));
    } catch (thrown) {
      const error = toAppError(thrown);
      if (error.code === 'DISK_FULL') throw thrown;
      if (error.code !== 'INTERNAL') return shortReason(error.message);
      // Bytes from outside must not fail the run of the others in ways that nobody thought of either.
      logger.error({ error: thrown, runId, round }, 'update not understood');
      return 'The update was rejected: it cannot be read.';
    }
  }

  function reject(siteId: string, round: number, reason: string): void {
    store.transaction(() => {
      store.roundSites.upsert({ runId, round, siteId, status: 'rejected', reason });
      store.audit.append({ actor: siteId, action: 'update-rejected', details: { runId, round, reason } });
    });
  }

  /** An honest update has the size that follows from the round; without this a site could fill disk and memory. */
  async function isOutsize(siteId: string, { round, update }: AnnounceBody): Promise<boolean> {
    const plan = ledger.planOf(round);
    const weights = trainableWeights(base, plan.mode, config.lastK);
    const shape = {
      ...(await startOf(siteId, round)),
      base: new Map(weights.map((name) => [name, base.weights.get(name)!])),
    };
    return update.sizeBytes > fileSizeBytes(shape, updateForm({ config, plan })) + sizeSlackBytes;
  }

  /** From here on the update counts as sent, whatever becomes of it. */
  function recordArrival(siteId: string, body: AnnounceBody): void {
    const { round, update, examples, meanLoss, steps } = body;
    const sent = { updateSha256: update.sha256, sizeBytes: update.sizeBytes, examples, meanLoss };
    store.transaction(() => {
      const row = { runId, round, siteId };
      store.roundSites.upsert({ ...row, ...sent, status: 'announced', reason: null, step: steps, steps });
      store.updateArrivals.add({ ...row, sha256: update.sha256 });
      if (config.privacy?.at === 'site')
        store.rounds.update(runId, round, { epsilon: epsilonSoFar(store, runId, config, round) });
    });
  }

  return {
    async announced(siteId, body) {
      const row = store.roundSites.get(runId, body.round, siteId);
      const settled = settledReceipt(siteId, row, body);
      if (settled !== null) return ports.sendReceipt(siteId, settled);
      if (row?.updateSha256 !== body.update.sha256) {
        for (const [key, pull] of pulls) if (key.startsWith(`${siteId} `)) pull.abort();
        if (await isOutsize(siteId, body)) {
          const reason = 'The update was rejected: it is larger than this round asks for.';
          store.roundSites.upsert({ runId, round: body.round, siteId, updateSha256: body.update.sha256 });
          reject(siteId, body.round, reason);
          options.onChange();
          return ports.sendReceipt(siteId, refused(body, reason));
        }
      }
      recordArrival(siteId, body);
      options.onChange();
      startPull(siteId, body);
    },
    stop() {
      for (const pull of pulls.values()) pull.abort();
    },
  };
}
