/** A part of the shared model whose file is damaged here is had again: computed, or from a site that has fetched it. */
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { BlobReference } from '../transport/messages.ts';
import type { RunLedger } from './run-ledger.ts';

export interface StateRecoveryOptions {
  ledger: Pick<RunLedger, 'runId' | 'computed' | 'referenceTo'>;
  blobs: Pick<BlobStore, 'verify' | 'put'>;
  /** As `RunPorts` has them. */
  ports: {
    onlineSites(): readonly string[];
    pull(siteId: string, reference: BlobReference, signal: AbortSignal): Promise<void>;
  };
  logger: Logger;
  signal: AbortSignal;
}

/** The run stands still meanwhile, and another site may have it. */
const mostMsOfSite = 15_000;

/** @returns whether it is whole now */
export async function fetchStateAgain(
  { ledger, blobs, ports, logger, signal }: StateRecoveryOptions,
  sha256: string,
): Promise<boolean> {
  if (await blobs.verify(sha256)) return true;
  const bytes = ledger.computed(sha256);
  if (bytes !== null) {
    await blobs.put(bytes);
    return true;
  }
  const reference = ledger.referenceTo(sha256);
  for (const siteId of reference === null ? [] : ports.onlineSites()) {
    if (signal.aborted) return false;
    try {
      await ports.pull(siteId, reference!, AbortSignal.any([signal, AbortSignal.timeout(mostMsOfSite)]));
      logger.info({ runId: ledger.runId, siteId, sha256 }, 'a damaged file of the run came back from a site');
      return true;
    } catch (error) {
      logger.info({ error, runId: ledger.runId, siteId, sha256 }, 'a site does not give a file of the run');
    }
  }
  return false;
}
