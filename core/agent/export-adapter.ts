/** An adapter of the data folder as other programs can use it: decoded, on the plain base model, with the site's local parameters. */
import path from 'node:path';
import type { AdapterExport } from '../api/context.ts';
import { preparingRounds, type RunConfig } from '../config/run-config.ts';
import { configIfReadable, configOf } from '../coordinator/readable-run.ts';
import { untrainedGallery } from '../coordinator/untrained.ts';
import { exportedFigures, floorsOf } from '../evaluation/floors.ts';
import type { MatrixProducts } from '../linalg/matrix-products.ts';
import type { ModelState } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import { type TrainedWith, writeAdapter } from '../models/adapter-files.ts';
import type { BaseModel } from '../models/base-model.ts';
import { type Catalogue, defaultBaseId } from '../models/catalogue.ts';
import { AppError } from '../shared/errors.ts';
import { decodeLocalParameters, withKept } from '../site/local-parameters.ts';
import { leavesUnchanged } from '../site/make-update.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { readOwnBlob } from '../store/read-own-blob.ts';
import type { AdapterRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { sumIntoAdapter } from '../strategy/frozen-base-adapter.ts';
import { applyFrozenBaseDelta } from '../strategy/frozen-base-delta.ts';
import { getStrategy } from '../strategy/registry.ts';
import { createRunState } from '../strategy/run-state.ts';
import { keepsParts } from '../strategy/what-travels.ts';
import { decodeFrozenBase, decodeGlobalState, decodeUpdate } from '../strategy/wire/wire.ts';

export interface ExportSources {
  store: ReadOnlyStore;
  blobs: BlobStore;
  catalogue: Catalogue;
  products: MatrixProducts;
}

/**
 * @param target the folder (`peft`) or file to write
 * @throws AppError NOT_FOUND for an unknown hash; CONFIG_INVALID when the files cannot say what the run made, or several
 *   runs made different things of one file; FILE_DAMAGED, MODEL_UNKNOWN, and what `writeAdapter` throws
 */
export async function exportAdapterOf(
  given: ExportSources,
  sha256: string,
  target: string,
  { runId, ...options }: AdapterExport,
): Promise<void> {
  const sources = { ...given, blobs: namingDamage(given.blobs) };
  const row = findAdapter(sources.store, sha256, runId);
  if (row?.kind === 'update' && !sources.blobs.has(sha256)) throw onlyNewestKept();
  if (row === null || !sources.blobs.has(sha256))
    throw new AppError('NOT_FOUND', 'This adapter is not in the data folder.');
  const run = sources.store.runs.get(row.runId);
  if (run === null) {
    const base = await sources.catalogue.load(defaultBaseId);
    return writeAdapter(target, decodeModelState(await sources.blobs.read(sha256), 'adapter'), base, options);
  }
  const config = configOf(run);
  if (row.kind === 'update' && row.round < preparingRounds(config)) throw holdsNoModel();
  const base = await sources.catalogue.load(
    await sources.catalogue.resolve(config.baseId, config.baseSha256),
  );
  const context = { ...sources, config, base, initial: createRunState(config, base) };
  const { state, parts } = await (row.kind === 'global' ? readGlobal : readOwn)(context, row);
  const frozenBaseDelta: ModelState[] = [];
  for (const part of parts) {
    const bytes = await sources.blobs.read(part);
    frozenBaseDelta.push(decodeFrozenBase(bytes, 'the frozen base delta', context));
  }
  const whole =
    (options.format ?? 'peft') === 'peft'
      ? await sumIntoAdapter(frozenBaseDelta, state, sources.products)
      : applyFrozenBaseDelta(base, frozenBaseDelta, state);
  const evaluation = row.kind === 'global' ? figuresOf(sources.store, config, row) : {};
  await writeAdapter(target, whole, base, { ...options, ...trainedWith(config), ...evaluation });
}

const holdsNoModel = () =>
  new AppError(
    'NOT_FOUND',
    'This file holds class means of embeddings, from before the training: no model.',
    {
      action: 'Export the result of a later round.',
    },
  );

/** Nothing is transferred here, so nothing is repeated. */
function namingDamage(blobs: BlobStore): BlobStore {
  return {
    ...blobs,
    read: (sha256) =>
      readOwnBlob(blobs, sha256, {
        message: 'A file of this adapter is damaged on this disk.',
        action:
          'Nothing was written. Export another round, or the result at the coordinator, or restore the data folder from a backup.',
      }),
  };
}

const withdrawalNote = `A consent behind this adapter was withdrawn.

It was made with images of at least one person who has withdrawn since, or builds upon an adapter that was. Anneal cannot
take that out of trained numbers. Use the newest adapter from before ("anneal coordinator restart RUN --before-withdrawal"
begins again from there), and ask your data protection officer before you pass this one on.
`;

/** Beside the files of an export: `WITHDRAWN.txt` in a folder, `FILE.withdrawn.txt` for a single file. */
export const writeWithdrawalNote = (target: string, format: AdapterExport['format'] = 'peft') =>
  writeFileAtomically(
    format === 'peft' ? path.join(target, 'WITHDRAWN.txt') : `${target}.withdrawn.txt`,
    withdrawalNote,
  );

/** Equal bytes mean different models when the runs put different parts under them. */
function findAdapter(store: ReadOnlyStore, sha256: string, runId: string | undefined): AdapterRecord | null {
  const rows = store.adapters.list({ sha256, runId });
  const meaningOf = (row: AdapterRecord) => {
    const run = store.runs.get(row.runId);
    const config = run && configIfReadable(run);
    return JSON.stringify([recordedParts(store, row), config && trainedWith(config)]);
  };
  if (new Set(rows.map(meaningOf)).size > 1) {
    const runs = [...new Set(rows.map((row) => row.runId))].join(', ');
    throw new AppError(
      'CONFIG_INVALID',
      'Several runs made this file, and it means a different model in each.',
      {
        action: `Name the run with --run, one of: ${runs}.`,
      },
    );
  }
  return rows[0] ?? null;
}

/** What lies under an adapter, oldest first; null when an older version did not record it. */
function recordedParts(
  store: ReadOnlyStore,
  { kind, runId, round }: AdapterRecord,
): readonly string[] | null {
  if (kind === 'update') return store.rounds.get(runId, round)?.frozenBaseParts ?? null;
  return store.rounds
    .listOfRun(runId)
    .flatMap((record) => (record.round <= round ? (record.frozenBaseSha256 ?? []) : []));
}

/** What a result is worth beside what its network did before training. A site knows neither. */
function figuresOf(
  store: ReadOnlyStore,
  config: RunConfig,
  { runId, round }: AdapterRecord,
): Pick<TrainedWith, 'evaluation'> {
  const records = store.rounds.listOfRun(runId).filter((record) => record.round <= round);
  const accuracies = records.map(({ accuracy }) => accuracy);
  const untrained = untrainedGallery(store, runId, config);
  return { evaluation: exportedFigures(floorsOf({ config, untrained, accuracies, isOver: true })) };
}

function trainedWith({ training }: RunConfig): TrainedWith {
  const { loraDropout, head, arcScale } = training;
  return { loraDropout, ...(head === 'softmax' ? {} : { arcScale }) };
}

/** What belongs to a run, to read its files with. */
type RunContext = ExportSources &
  Parameters<typeof decodeFrozenBase>[2] & { config: RunConfig; base: BaseModel };

interface RunAdapter {
  state: ModelState;
  /** What lies under it, oldest first. */
  parts: readonly string[];
}

async function readGlobal(context: RunContext, adapter: AdapterRecord): Promise<RunAdapter> {
  const { store, blobs, config } = context;
  const plan = planOf(config, adapter.round + 1);
  // Of what a site keeps the coordinator has the first values only: an adapter of those would look whole and be none.
  if (getStrategy(config.strategy).configureEvaluate(config, plan.round).perSite) {
    const kept = config.localHead ? 'its head' : 'some of its factors';
    throw new AppError(
      'CONFIG_INVALID',
      `In this run each site keeps ${kept} to itself, so the coordinator does not have a whole adapter.`,
      { action: 'Export an adapter at a site, which has all of it.' },
    );
  }
  const state = decodeGlobalState(await blobs.read(adapter.sha256), 'adapter', { ...context, plan });
  return { state, parts: recordedParts(store, adapter) ?? [] };
}

/** A site's update with what the site kept to itself: its own model after the round. */
async function readOwn(context: RunContext, adapter: AdapterRecord): Promise<RunAdapter> {
  const { sha256, runId, round } = adapter;
  const { store, blobs, config, base } = context;
  const plan = planOf(config, round);
  const bytes = await blobs.read(sha256);
  const parts = partsAtSite(context, adapter);
  if (leavesUnchanged({ config, plan })) return { state: decodeModelState(bytes, 'adapter'), parts };

  const startSha256 = adapter.startSha256 ?? store.rounds.get(runId, round)?.startSha256;
  if (startSha256 === undefined || !blobs.has(startSha256))
    throw notHere('the state that it was trained from');
  const start = decodeGlobalState(await blobs.read(startSha256), 'global state', { ...context, plan });
  const state = decodeUpdate(bytes, 'adapter', { config, plan, base, start });
  const memory = store.siteMemory.newestBefore(runId, round + 1);
  if (memory?.round !== round) {
    if (keepsParts(config, plan)) throw notHere('the local parameters of the site');
    return { state, parts };
  }
  const own = decodeLocalParameters(
    await blobs.read(memory.sha256),
    'the local parameters of the site',
    start,
  );
  return { state: withKept(state, own.kept), parts };
}

/** Parts that lay under the state from which a site's update was trained. */
function partsAtSite({ store, blobs, config }: RunContext, adapter: AdapterRecord): readonly string[] {
  const recorded = recordedParts(store, adapter);
  if (recorded === null && mayHaveFrozen(config, adapter.round))
    throw new AppError(
      'NOT_FOUND',
      'An older version of Anneal trained this adapter and did not record its frozen base delta.',
      { action: 'Export the result of that round at the coordinator.' },
    );
  const parts = recorded ?? [];
  if (!parts.every((sha256) => blobs.has(sha256))) throw notHere('the frozen base delta');
  return parts;
}

/** Whether rounds before this one may have put something under the global state. */
function mayHaveFrozen(config: RunConfig, round: number): boolean {
  const { configureTrain, frozenAfter } = getStrategy(config.strategy);
  const plans = Array.from({ length: round + 1 }, (_, each) => configureTrain(config, each));
  return plans.slice(1).some((next, before) => frozenAfter(config, plans[before]!, next) !== 'nothing');
}

const onlyNewestKept = () =>
  new AppError('NOT_FOUND', 'The file of this update is no longer in the data folder.', {
    action:
      "A site keeps its own updates of a run's last two rounds: export one of those, or a result at the coordinator.",
  });

function notHere(what: string): AppError {
  return new AppError(
    'NOT_FOUND',
    `The adapter alone is not enough: ${what} is no longer in the data folder.`,
    {
      action: 'Export a newer adapter, or the result of a round at the coordinator.',
    },
  );
}

const planOf = (config: RunConfig, round: number) =>
  getStrategy(config.strategy).configureTrain(config, Math.min(round, config.rounds - 1));
