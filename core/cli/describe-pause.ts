/** Why a run does not go on, for the terminal. */
import type { RunSummary } from '../api/contract.ts';

export function describePause({ failure, retryAt, since }: NonNullable<RunSummary['pause']>): string {
  const until =
    retryAt === null ? 'It waits until somebody resumes it.' : `It goes on by itself at ${retryAt}.`;
  if (failure === null) return `Paused by hand since ${since}. ${until}`;
  return `Paused since ${since}: ${failure.message} ${until} ${failure.action}`;
}
