/** Fetches and judges the files of sites' updates; what becomes of a verdict is decided in run-reducer.ts. */
import { trainableWeights } from '../models/trainable-weights.ts';
import { toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { checkUpdate } from '../strategy/check-update.ts';
import { fileSizeBytes, fileValueCount, updateForm } from '../strategy/wire/wire.ts';
import { type AnnounceBody, type BlobReference, shortReason } from '../transport/messages.ts';
import type { RunLedger } from './run-ledger.ts';

export interface UpdateReceiverOptions {
  ledger: RunLedger;
  logger: Logger;
  pull(siteId: string, reference: BlobReference, signal: AbortSignal): Promise<void>;
  onTransferred(siteId: string, body: AnnounceBody): Promise<void>;
}

export interface UpdateReceiver {
  /** An honest update has the size that follows from the round; without this a site could fill disk and memory. */
  isTooLarge(siteId: string, body: AnnounceBody): Promise<boolean>;
  /** Does not wait for the transfer; one that is under way already goes on. */
  fetch(siteId: string, body: AnnounceBody): undefined;
  /** Number of values in a good update, or what is wrong with it. */
  judge(siteId: string, body: AnnounceBody): Promise<number | string>;
  /** Stops the transfers of a site, or all; what arrived is kept. */
  stop(siteId: string | null): undefined;
}

/** For differences in what a file says beside its values. */
const sizeSlackBytes = 64 * 1024;

export function createUpdateReceiver(options: UpdateReceiverOptions): UpdateReceiver {
  const { ledger, logger, pull, onTransferred } = options;
  const { runId, config, base } = ledger;
  const transfers = new Map<string, AbortController>();

  return {
    async isTooLarge(siteId, { round, update }) {
      const plan = ledger.planOf(round);
      const weights = trainableWeights(base, plan.mode, config.lastK);
      const shape = {
        ...(await ledger.startOf(siteId, round)),
        base: new Map(weights.map((name) => [name, base.weights.get(name)!])),
      };
      return update.sizeBytes > fileSizeBytes(shape, updateForm({ config, plan })) + sizeSlackBytes;
    },
    fetch(siteId, body) {
      const key = `${siteId} ${body.update.sha256}`;
      if (transfers.has(key)) return;
      const abort = new AbortController();
      transfers.set(key, abort);
      // A transfer that fails is begun again when the site repeats its announcement.
      void pull(siteId, body.update, abort.signal)
        .then(() => onTransferred(siteId, body))
        .catch((error) => logger.warn({ error, runId, round: body.round, siteId }, 'update not received'))
        .finally(() => transfers.delete(key));
    },
    async judge(siteId, { round, update }) {
      // That this cannot be read is no fault of the site's.
      const start = await ledger.startOf(siteId, round);
      const plan = ledger.planOf(round);
      try {
        const state = await ledger.readUpdate(update.sha256, siteId, round, 'update');
        const trained = trainableWeights(base, plan.mode, config.lastK);
        checkUpdate(state, { base, global: start, plan, trained });
        return fileValueCount(state, updateForm({ config, plan }));
      } catch (thrown) {
        const error = toAppError(thrown);
        if (error.code === 'DISK_FULL') throw thrown;
        if (error.code !== 'INTERNAL') return shortReason(error.message);
        // Bytes from outside must not fail the run of the others in ways that nobody thought of either.
        logger.error({ error: thrown, runId, round }, 'update not understood');
        return 'The update was rejected: it cannot be read.';
      }
    },
    stop(siteId) {
      for (const [key, abort] of transfers)
        if (siteId === null || key.startsWith(`${siteId} `)) abort.abort();
    },
  };
}
