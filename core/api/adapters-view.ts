/** The adapters of an installation, with what has become of the consents behind them. */
import { isMarked, type WithdrawalMark, withdrawalMarks } from '../coordinator/withdrawals.ts';
import type { AdapterRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import type { AdapterRow } from './contract.ts';

/** Newest first. */
export function listAdapters(store: ReadOnlyStore): AdapterRow[] {
  const marks = withdrawalMarks(store);
  const told = new Set(store.withdrawalNotices.list().map(({ updateSha256 }) => updateSha256));
  return store.adapters
    .list()
    .map((row) => ({ ...row, withdrawn: told.has(row.sha256) || isBuiltOnMarked(row, marks) }));
}

/** Whether a file was made with images of somebody who has withdrawn since; `runId`: whose adapter is meant. */
export const isWithdrawn = (store: ReadOnlyStore, sha256: string, runId?: string): boolean =>
  listAdapters(store).some(
    (row) => row.sha256 === sha256 && (runId === undefined || row.runId === runId) && row.withdrawn,
  );

/** A site's update builds upon the result of the round before its own. */
const isBuiltOnMarked = (
  { runId, round, kind }: AdapterRecord,
  marks: ReadonlyMap<string, WithdrawalMark>,
): boolean => isMarked(marks.get(runId), kind === 'update' ? round - 1 : round);
