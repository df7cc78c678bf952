/** How far a backup or a restore is. */
import { AppError } from '../shared/errors.ts';

export interface BackupProgress {
  phase: 'database' | 'copying' | 'verifying';
  doneBytes: number;
  totalBytes: number;
  /** Null while too little is done to tell. */
  secondsLeft: number | null;
}

/** Hears how far it is, and is asked at every step whether to go on. */
export interface Steps {
  readonly signal?: AbortSignal | undefined;
  onProgress?(progress: Omit<BackupProgress, 'secondsLeft'>): void;
}

/** @throws AppError CANCELLED */
export function checkCancelled({ signal }: Steps, what: 'backup' | 'restore' | 'verification'): void {
  if (signal?.aborted !== true) return;
  throw new AppError('CANCELLED', `The ${what} was cancelled; nothing of it was left.`);
}

const leastMs = 1_000;

/** Of the whole work, from what of it is done: writing and reading back take about as long per byte. */
export function createEstimate(now: () => number = () => performance.now()) {
  const begun = now();
  return (progress: Omit<BackupProgress, 'secondsLeft'>): BackupProgress => {
    const elapsedMs = now() - begun;
    const { doneBytes, totalBytes } = progress;
    const known = elapsedMs >= leastMs && doneBytes > 0 && totalBytes >= doneBytes;
    const secondsLeft = known ? Math.ceil((elapsedMs * (totalBytes / doneBytes - 1)) / 1000) : null;
    return { ...progress, secondsLeft };
  };
}
