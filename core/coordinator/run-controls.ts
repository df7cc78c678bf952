/** Stopping, pausing and resuming a run by hand; also one that could not be loaded. */
import { AppError } from '../shared/errors.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { RunRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { RunEngine } from './run-engine.ts';
import { isOver } from './run-events.ts';
import { newestState } from './run-records.ts';

export interface RunControlsOptions {
  store: Store;
  blobs: BlobStore;
  /** The engine of this run if it is loaded. */
  engineOf(runId: string): RunEngine | null;
  /** Loads the run and lets it go on as at a start. @throws AppError */
  load(runId: string): Promise<RunEngine>;
  onChange(): void;
}

export interface RunControls {
  stop(runId: string, actor: string): Promise<void>;
  pause(runId: string, actor: string): Promise<void>;
  resume(runId: string, actor: string): Promise<void>;
}

export function createRunControls(options: RunControlsOptions): RunControls {
  const { store, blobs, engineOf } = options;
  const audit = (actor: string, action: string, runId: string) =>
    store.audit.append({ actor, action, details: { runId } });
  const isCurrent = (runId: string) => store.runs.current()?.id === runId;

  /** Its newest state, what lies under that, and what the server's optimiser remembers have no other copy. */
  function refuseLost({ id: runId }: RunRecord): void {
    const rounds = store.rounds.listOfRun(runId);
    const last = rounds.findLast(({ resultSha256 }) => resultSha256 !== null);
    const hasState = store.adapters.list({ runId, kind: 'global' }).length > 0;
    const needed = [
      hasState ? newestState({ runId, store }) : null,
      last?.memorySha256 ?? null,
      ...rounds.map(({ frozenBaseSha256 }) => frozenBaseSha256),
    ];
    const lost = needed.find((sha256) => sha256 !== null && !blobs.has(sha256)) ?? null;
    if (lost === null) return;
    const text = `The file ${lost.slice(0, 12)} of this run is not in the data folder any more.`;
    throw new AppError('NOT_FOUND', text, {
      action: 'Restore the data folder from a backup, or start a new run from the last result that is there.',
    });
  }

  function refuseNothingToResume(run: RunRecord): void {
    const isPaused = run.pause !== null || (engineOf(run.id)?.paused ?? null) !== null;
    if (!isPaused && run.status !== 'failed')
      throw new AppError(
        'RUN_CONFLICT',
        'This run is neither paused nor failed: there is nothing to resume.',
        {
          action: 'Look at the state of the run.',
        },
      );
    const isNewest = store.runs.list()[0]?.id === run.id;
    if (run.status === 'failed' && (store.runs.current() !== null || !isNewest))
      throw new AppError('RUN_CONFLICT', 'Another run was started since, so this one cannot go on.', {
        action: 'Start a new run from the last result of this one instead.',
      });
  }

  return {
    async stop(runId, actor) {
      const engine = engineOf(runId);
      if (engine === null && !isCurrent(runId))
        throw new AppError('NOT_FOUND', 'This run is not in progress.');
      audit(actor, 'run-stop-asked', runId);
      if (engine !== null) return engine.stop();
      // One that cannot be read ends all the same, so that another one can be started.
      store.runs.update(runId, { status: 'stopped', finishedAt: store.now(), pause: null });
      options.onChange();
    },
    async pause(runId, actor) {
      const engine = engineOf(runId);
      const run = store.runs.get(runId);
      if (engine === null || run === null || isOver(run))
        throw new AppError('NOT_FOUND', 'This run is not in progress.');
      audit(actor, 'run-pause-asked', runId);
      await engine.pause();
    },
    async resume(runId, actor) {
      const run = store.runs.get(runId);
      if (run === null) throw new AppError('NOT_FOUND', 'This run does not exist.');
      refuseNothingToResume(run);
      refuseLost(run);
      const engine = engineOf(runId) ?? (await options.load(runId));
      audit(actor, 'run-resume-asked', runId);
      await engine.goOn();
    },
  };
}
