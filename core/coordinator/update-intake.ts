/** How a site's update comes in: announced, pulled when its turn comes, judged, answered with a receipt. */

import { trainableWeights } from '../engine/training-graph.ts';
import { stateShape } from '../lora/state-file.ts';
import { toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RoundSiteRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { checkUpdate } from '../strategy/check-update.ts';
import { siteStart } from '../strategy/site-rank.ts';
import { decodeUpdate, updateValueCount } from '../strategy/wire/wire.ts';
import type { AnnounceBody, ReceiptBody } from '../transport/messages.ts';
import type { RunPorts } from './ports.ts';
import type { RunLedger } from './run-ledger.ts';

export interface UpdateIntakeOptions {
  ledger: RunLedger;
  store: Store;
  blobs: BlobStore;
  ports: RunPorts;
  logger: Logger;
  /** Runs a step of the run's state machine in its turn, and looks afterwards whether the round may close. */
  step(task: () => Promise<void>): Promise<void>;
  onChange(): void;
}

export interface UpdateIntake {
  /** Repeating an announcement changes nothing but may repeat the answer. Call it in the run's turn. */
  announced(siteId: string, body: AnnounceBody): Promise<void>;
  /** Stops every transfer; what arrived is kept. */
  stop(): void;
}

export function createUpdateIntake(options: UpdateIntakeOptions): UpdateIntake {
  const { ledger, store, blobs, ports, logger } = options;
  const { runId, config, base } = ledger;
  const pulls = new Map<string, AbortController>();

  /** The answer that is known already: the update was judged, or comes too late. */
  function settledReceipt(
    siteId: string,
    row: RoundSiteRecord | null,
    body: AnnounceBody,
  ): ReceiptBody | null {
    const receipt = { runId, round: body.round, updateSha256: body.update.sha256 };
    const isSame = row?.updateSha256 === body.update.sha256;
    if (isSame && row.status === 'received') return { ...receipt, accepted: true };
    if (isSame && row.status === 'rejected')
      return { ...receipt, accepted: false, reason: row.reason ?? 'Rejected.' };
    if (!ledger.isOpen(body.round)) {
      return {
        ...receipt,
        accepted: false,
        reason: 'The round has closed; the site takes part in the next one.',
      };
    }
    if (!ledger.trains(siteId, body.round)) {
      return {
        ...receipt,
        accepted: false,
        reason: 'The site was not drawn for this round; it only evaluates.',
      };
    }
    if (row?.status === 'received') {
      return { ...receipt, accepted: false, reason: 'Another update of this site was accepted already.' };
    }
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
    const key = { runId, round, siteId };
    const receipt = { runId, round, updateSha256: update.sha256 };
    try {
      const plan = ledger.planOf(round);
      const start = await ledger.readState(ledger.round(round).startSha256, round);
      const global = siteStart(config, ledger.nameOf(siteId), start);
      const bytes = await blobs.read(update.sha256);
      const state = decodeUpdate(bytes, 'update', { config, plan, base, start: global });
      const trained = trainableWeights(base, plan.mode, config.lastK);
      checkUpdate(state, { base, global, plan, trained });
      store.transaction(() => {
        store.roundSites.upsert({ ...key, status: 'received' });
        store.rounds.update(runId, round, {
          addParametersUp: updateValueCount(stateShape(state), { config, plan }),
        });
        store.audit.append({
          actor: siteId,
          action: 'update-received',
          details: { runId, round, update: update.sha256 },
        });
      });
      return { ...receipt, accepted: true };
    } catch (thrown) {
      const error = toAppError(thrown);
      if (error.code === 'INTERNAL' || error.code === 'DISK_FULL') throw thrown;
      store.transaction(() => {
        store.roundSites.upsert({ ...key, status: 'rejected', reason: error.message });
        store.audit.append({
          actor: siteId,
          action: 'update-rejected',
          details: { runId, round, reason: error.message },
        });
      });
      return { ...receipt, accepted: false, reason: error.message };
    }
  }

  return {
    async announced(siteId, body) {
      const row = store.roundSites.get(runId, body.round, siteId);
      const settled = settledReceipt(siteId, row, body);
      if (settled !== null) return ports.sendReceipt(siteId, settled);
      store.roundSites.upsert({
        runId,
        round: body.round,
        siteId,
        status: 'announced',
        reason: null,
        examples: body.examples,
        meanLoss: body.meanLoss,
        updateSha256: body.update.sha256,
        sizeBytes: body.update.sizeBytes,
        step: body.steps,
        steps: body.steps,
      });
      options.onChange();
      startPull(siteId, body);
    },
    stop() {
      for (const pull of pulls.values()) pull.abort();
    },
  };
}
