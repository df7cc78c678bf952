/** Runs that begin with the result of a round of an earlier run, and where to begin again after a withdrawal. */
import { type RunConfig, runConfigSchema, type StartState, startStateOf } from '../config/run-config.ts';
import type { BaseModel } from '../models/base-model.ts';
import { createArrivals } from '../policy/arrivals.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { canonicalJson } from '../shared/hash.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { getStrategy } from '../strategy/registry.ts';
import { createRunState } from '../strategy/run-state.ts';
import { decodeGlobalState, globalForm, isPlainFile } from '../strategy/wire/wire.ts';
import { configOf } from './readable-run.ts';
import { isMarked, withdrawalMarks } from './withdrawals.ts';

export interface StartSources {
  store: ReadOnlyStore;
  blobs: Pick<BlobStore, 'has' | 'read'>;
}

/** A version of a model. `round`: whose result it is, 0-based. */
export interface ModelVersion {
  runId: string;
  round: number;
}

/** What a file says only together with the settings of its run; a file that holds everything needs none of them. */
const neededToRead = ['strategy', 'seed', 'rMax', 'rankPattern', 'freezeA', 'localHead'] as const;

/**
 * Whether a run can begin with this version, as its sites will check it.
 * @param config of the run that is to begin
 * @throws AppError NOT_FOUND | CONFIG_INVALID with the reason
 */
export async function startStateFrom(
  { store, blobs }: StartSources,
  { runId, round }: ModelVersion,
  config: RunConfig,
  base: BaseModel,
): Promise<StartState> {
  const source = store.runs.get(runId);
  const sha256 = store.rounds.get(runId, round)?.resultSha256 ?? null;
  if (source === null || sha256 === null || !blobs.has(sha256))
    throw new AppError('NOT_FOUND', `Round ${round + 1} of that run has no result here to start from.`);
  const refuse = (why: string) =>
    new AppError('CONFIG_INVALID', `No run can start from round ${round + 1} of that run: ${why}.`, {
      action: 'Choose another round, change the settings, or start from a fresh adapter.',
    });
  if (isMarked(withdrawalMarks(store).get(runId), round))
    throw refuse('somebody whose images were a part of it has withdrawn');
  const rounds = store.rounds.listOfRun(runId);
  if (rounds.some((each) => each.round <= round && each.frozenBaseSha256 !== null))
    throw refuse('its model is more than its adapter: other parts lie under it');
  const before = configOf(source);
  const plan = getStrategy(config.strategy).configureTrain(config, 0);
  if (!isPlainFile(globalForm({ config, plan }))) {
    const other = neededToRead.find((key) => canonicalJson([before[key]]) !== canonicalJson([config[key]]));
    if (other !== undefined) throw refuse(`its file can only be read with the same setting "${other}"`);
  }
  const initial = createRunState(config, base);
  try {
    const state = decodeGlobalState(await blobs.read(sha256), 'the file', { config, plan, base, initial });
    createArrivals(config, base, initial).checkState(state, 0);
  } catch (thrown) {
    const { code, message } = toAppError(thrown);
    if (code !== 'MODEL_FILE_INVALID' && code !== 'CONTRACT_BROKEN') throw thrown;
    throw refuse(message.replace(/^.*?: /, '').replace(/\.$/, ''));
  }
  return { runId, round, sha256 };
}

/**
 * Versions from before the withdrawals that a run is marked with, newest first: its own, then those that it started from.
 * Behind the last of them is only a fresh adapter.
 * @throws AppError NOT_FOUND
 */
export function versionsBeforeWithdrawal(store: ReadOnlyStore, runId: string): ModelVersion[] {
  const run = store.runs.get(runId);
  if (run === null) throw new AppError('NOT_FOUND', 'This run does not exist.');
  const marks = withdrawalMarks(store);
  const clean = (id: string, upTo: number): ModelVersion[] =>
    store.rounds
      .listOfRun(id)
      .filter(
        ({ round, resultSha256 }) =>
          resultSha256 !== null && round <= upTo && !isMarked(marks.get(id), round),
      )
      .map(({ round }) => ({ runId: id, round }))
      .reverse();
  const found: ModelVersion[] = [];
  const seen = new Set<string>();
  let next: { id: string; upTo: number } | null = { id: runId, upTo: Number.POSITIVE_INFINITY };
  while (next !== null && !seen.has(next.id)) {
    seen.add(next.id);
    found.push(...clean(next.id, next.upTo));
    const config: { startFrom?: string } =
      runConfigSchema.safeParse(store.runs.get(next.id)?.config).data ?? {};
    const start = startStateOf(config);
    next = start === null ? null : { id: start.runId, upTo: start.round };
  }
  return found;
}
