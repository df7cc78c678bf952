/** What becomes of a run in which something went wrong: the one table of errors by what helps against them. */
import { AppError, type ErrorCode, isOffline, toAppError } from '../shared/errors.ts';
import type { RunPause } from '../store/records.ts';

/**
 * `retry`: it may pass by itself. `person`: somebody has to do something on this machine first. `give-up`: it comes back
 * however often one tries. (Of an update that is damaged its site is asked again, see `DamagedUpdate`.)
 */
export type TroubleKind = 'retry' | 'person' | 'give-up';

interface Remedy {
  kind: TroubleKind;
  /** What a person does before the run is resumed; what the error says when absent. */
  first?: string;
}

/** Any other error: a person has a look, and nothing is lost meanwhile. */
const otherwise: Remedy = { kind: 'person' };

const remedies: Partial<Record<ErrorCode, Remedy>> = {
  BROKER_UNREACHABLE: { kind: 'retry' },
  BROKER_REFUSED: { kind: 'retry' },
  DATA_FOLDER_IN_USE: { kind: 'retry' },
  DATABASE_BUSY: { kind: 'retry' },
  // Nobody knows what it was: it may have passed.
  INTERNAL: { kind: 'retry' },
  DISK_FULL: { kind: 'person', first: 'Free some space on the disk that holds the data folder' },
  DATA_FOLDER_UNUSABLE: { kind: 'person', first: 'Let Anneal read and write its data folder again' },
  MODEL_UNKNOWN: { kind: 'person', first: 'Import the base model of this run again' },
  BLOB_CORRUPT: {
    kind: 'person',
    first: 'Check the disk, and restore the files of the data folder from a backup',
  },
  NOT_FOUND: { kind: 'person', first: 'Restore the files of the data folder from a backup' },
  DATABASE_DAMAGED: otherwise,
  RUN_UNREADABLE: {
    kind: 'person',
    first: 'Stop this run and start a new one, or go back to the version that wrote it',
  },
  MESSAGE_INVALID: { kind: 'give-up' },
  CONFIG_INVALID: { kind: 'give-up' },
};

/** After so many tries in a row somebody has to look. */
const mostTries = 8;
const firstRetryMs = 2_000;
/** No try waits longer for the next one. */
const longestRetryMs = 300_000;

/** What the system says of a file that it does not give. */
const refusedBySystem: ReadonlySet<unknown> = new Set(['EACCES', 'EPERM', 'EROFS', 'EIO']);

export interface Trouble {
  kind: TroubleKind;
  failure: AppError;
}

/** @param runId for the advice */
export function troubleOf(thrown: unknown, runId: string): Trouble {
  const error = explained(thrown);
  const { kind, first } = isOffline(error) ? { kind: 'retry' as const } : (remedies[error.code] ?? otherwise);
  const resume = `resume the run on its screen or with "anneal coordinator resume ${runId}"`;
  const action = kind === 'give-up' ? error.action : first ? `${first}; then ${resume}.` : undefined;
  const advice = action ?? `${error.action} Then ${resume}.`;
  return { kind, failure: new AppError(error.code, error.message, { action: advice, cause: thrown }) };
}

function explained(thrown: unknown): AppError {
  const code = (thrown as { code?: unknown } | null)?.code;
  return refusedBySystem.has(code)
    ? new AppError('DATA_FOLDER_UNUSABLE', 'A file of the data folder cannot be read or written.', {
        cause: thrown,
      })
    : toAppError(thrown);
}

/** @param tries how often the run has gone on by itself in vain */
export function pauseAfter({ kind, failure }: Trouble, tries: number, now: Date): RunPause {
  const waits = kind === 'retry' && tries < mostTries;
  const afterMs = Math.min(longestRetryMs, firstRetryMs * 2 ** tries);
  const retryAt = waits ? new Date(now.getTime() + afterMs).toISOString() : null;
  return { kind: waits ? 'retry' : 'person', failure: failure.toReport(), since: now.toISOString(), retryAt };
}
