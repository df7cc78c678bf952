/** Fetches and judges the files of sites' updates; what becomes of a verdict is decided in run-reducer.ts. */
import { trainableWeights } from '../models/trainable-weights.ts';
import { type AppError, toAppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { Store } from '../store/store.ts';
import { checkUpdate } from '../strategy/check-update.ts';
import { isPrototypeRound } from '../strategy/prototype-start.ts';
import { noPrototypes } from '../strategy/prototypes.ts';
import { encodeUpdate, fileSizeBytes, fileValueCount, updateForm } from '../strategy/wire/wire.ts';
import { type AnnounceBody, type BlobReference, chunkBytes, shortReason } from '../transport/messages.ts';
import { DamagedUpdate, type RunLedger } from './run-ledger.ts';

export interface UpdateReceiverOptions {
  ledger: RunLedger;
  store: Pick<Store, 'updateArrivals' | 'blobReferences'>;
  blobs: Pick<BlobStore, 'has' | 'isInUse' | 'put'>;
  logger: Logger;
  pull(siteId: string, reference: BlobReference, signal: AbortSignal): Promise<void>;
  onTransferred(siteId: string, body: AnnounceBody): Promise<void>;
  /** Also for a transfer that was stopped. */
  onFailed(siteId: string, body: AnnounceBody, error: AppError): Promise<void>;
}

export interface UpdateReceiver {
  /**
   * Why an update is refused before its first byte: a site could fill disk and memory, or pass off a file of somebody
   * else's as its own. Null when it may come.
   */
  refusalOf(siteId: string, body: AnnounceBody): Promise<string | null>;
  /** Does not wait for the transfer; one that is under way already goes on. */
  fetch(siteId: string, body: AnnounceBody): undefined;
  /** The same, unless it was begun not long ago. */
  fetchAgain(siteId: string, body: AnnounceBody): void;
  /** What came of the last time counts no more: `fetchAgain` begins at once. */
  forget(siteId: string, updateSha256: string): void;
  /** Number of values in a good update, or what is wrong with it. @throws DamagedUpdate and what else is no fault of the site */
  judge(siteId: string, body: AnnounceBody): Promise<number | string>;
  /** Stops the transfers of a site, or all; what arrived is kept. */
  stop(siteId: string | null): undefined;
}

/** Different updates of one site in a round: a few follow from consents that are withdrawn while it trains. */
export const maxUpdatesPerRound = 8;

/** A site that could not send an update is not asked for it more often. */
const fetchAgainMs = 30_000;

const rejected = (why: string) => `The update was rejected: ${why}.`;

export function createUpdateReceiver(options: UpdateReceiverOptions): UpdateReceiver {
  const { ledger, store, blobs, logger, pull, onTransferred, onFailed } = options;
  const { runId, config, base } = ledger;
  const transfers = new Map<string, AbortController>();
  /** When each was begun last. */
  const begun = new Map<string, number>();

  /** Follows from the round, to the byte. */
  async function sizeOf(siteId: string, round: number): Promise<number> {
    const plan = ledger.planOf(round);
    const weights = trainableWeights(base, plan.mode, config.lastK);
    const shape = {
      ...(await ledger.startOf(siteId, round)),
      base: new Map(weights.map((name) => [name, base.weights.get(name)!])),
    };
    return fileSizeBytes(shape, updateForm({ config, plan }));
  }

  /**
   * The file of a site that has too few subjects of every class to send class means, if this is it: it is the same from
   * every such site, and the coordinator makes it itself.
   */
  async function fileOfNothing(siteId: string, { round, update }: AnnounceBody): Promise<Uint8Array | null> {
    const plan = ledger.planOf(round);
    if (!isPrototypeRound(plan)) return null;
    const start = await ledger.startOf(siteId, round);
    const trained = noPrototypes(start);
    const { bytes } = encodeUpdate({ config, plan, base, start, trained });
    return sha256(bytes) === update.sha256 ? bytes : null;
  }

  async function get(siteId: string, body: AnnounceBody, signal: AbortSignal): Promise<void> {
    const known = await fileOfNothing(siteId, body);
    if (known === null) await pull(siteId, body.update, signal);
    else await blobs.put(known);
  }

  function fetch(siteId: string, body: AnnounceBody): undefined {
    const key = `${siteId} ${body.update.sha256}`;
    if (transfers.has(key)) return;
    const abort = new AbortController();
    transfers.set(key, abort);
    begun.set(key, performance.now());
    void get(siteId, body, abort.signal)
      .finally(() => transfers.get(key) === abort && transfers.delete(key))
      .then(
        () => onTransferred(siteId, body),
        (thrown) => onFailed(siteId, body, toAppError(thrown)),
      )
      .catch((error) => logger.warn({ error, runId, round: body.round, siteId }, 'update not received'));
  }

  return {
    async refusalOf(siteId, body) {
      const { round, update } = body;
      const earlier = store.updateArrivals.ofSite(runId, round, siteId);
      const isKnown = earlier.includes(update.sha256);
      if (!isKnown && earlier.length >= maxUpdatesPerRound)
        return rejected(`it is one more than the ${maxUpdatesPerRound} that a site may send in a round`);
      // Whatever is here already came from somebody else, or for something else; but training repeats to the bit, and a run
      // that is started again gets the same update from the same site.
      const isHeld = blobs.has(update.sha256) || blobs.isInUse(update.sha256);
      const isOwn = store.updateArrivals.isFrom(siteId, update.sha256);
      const isOfOthers = !isOwn && (isHeld || store.blobReferences.isOfOthers(update.sha256, siteId));
      if (isOfOthers && (await fileOfNothing(siteId, body)) === null)
        return rejected('this file was not made by this site for this round');
      const expected = await sizeOf(siteId, round);
      if (update.sizeBytes !== expected)
        return rejected(`it has ${update.sizeBytes} bytes, but this round asks for a file of ${expected}`);
      return update.chunkBytes === chunkBytes ? null : rejected('it comes in chunks of another size');
    },
    fetch,
    fetchAgain(siteId, body) {
      const last = begun.get(`${siteId} ${body.update.sha256}`) ?? Number.NEGATIVE_INFINITY;
      if (performance.now() - last > fetchAgainMs) fetch(siteId, body);
    },
    forget: (siteId, updateSha256) => void begun.delete(`${siteId} ${updateSha256}`),
    async judge(siteId, { round, update }) {
      // That this cannot be read is no fault of the site's.
      const start = await ledger.startOf(siteId, round);
      const plan = ledger.planOf(round);
      try {
        const state = await ledger.readUpdate(update.sha256, siteId, round, 'update');
        const trained = trainableWeights(base, plan.mode, config.lastK);
        checkUpdate(state, { base, global: start, plan, trained, noisy: config.privacy?.at === 'site' });
        return fileValueCount(state, updateForm({ config, plan }));
      } catch (thrown) {
        if (thrown instanceof DamagedUpdate) throw thrown;
        const error = toAppError(thrown);
        if (error.code === 'DISK_FULL') throw thrown;
        if (error.code !== 'INTERNAL') return shortReason(error.message);
        // Bytes from outside must not fail the run of the others in ways that nobody thought of either.
        logger.error({ error: thrown, runId, round }, 'update not understood');
        return rejected('it cannot be read');
      }
    },
    stop(siteId) {
      for (const [key, abort] of transfers) {
        if (siteId !== null && !key.startsWith(`${siteId} `)) continue;
        // At once: the same update may be asked for again before this one has ended.
        transfers.delete(key);
        abort.abort();
      }
    },
  };
}
