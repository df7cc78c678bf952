/** Runs as an earlier version wrote them, or a damaged disk left them: kept and shown as such, and no obstacle to anything else. */
import { type RunConfig, runConfigSchema } from '../config/run-config.ts';
import { AppError } from '../shared/errors.ts';
import type { RunPause, RunRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { troubleOf } from './trouble.ts';

type Stored = Pick<RunRecord, 'id' | 'config'>;

export const unreadableNote =
  'This run was written by an earlier version of Anneal, or its entry is damaged: it is kept as it is, and can be neither shown in full, continued nor exported here.';

/** @throws AppError RUN_UNREADABLE */
export function configOf({ config }: Stored): RunConfig {
  const parsed = runConfigSchema.safeParse(config);
  if (!parsed.success) throw unreadable(parsed.error);
  return parsed.data;
}

/** Null when it cannot be read. */
export const configIfReadable = ({ config }: Stored): RunConfig | null =>
  runConfigSchema.safeParse(config).data ?? null;

const unreadable = (cause: unknown): AppError => new AppError('RUN_UNREADABLE', unreadableNote, { cause });

/** What a run's rows say, or the one sentence that they say nothing this version understands. */
export async function reading<T>(read: () => T | Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (thrown) {
    throw thrown instanceof AppError ? thrown : unreadable(thrown);
  }
}

/** A run in progress that cannot be loaded waits for a person; the coordinator starts all the same. */
export function pauseUnloadable(store: Store, runId: string, thrown: unknown): RunPause {
  const { failure } = troubleOf(thrown, runId);
  const since = store.runs.get(runId)?.pause?.since ?? store.now();
  const pause = { kind: 'person', failure: failure.toReport(), since, retryAt: null } as const;
  store.transaction(() => {
    store.runs.update(runId, { pause });
    const details = { runId, kind: pause.kind, code: failure.code };
    store.audit.append({ actor: 'coordinator', action: 'run-paused', details });
  });
  return pause;
}
