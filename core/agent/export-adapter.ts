/** An adapter of the data folder as other programs can use it: decoded, on the plain base model, with the site's local parameters. */

import { type RunConfig, runConfigSchema } from '../config/run-config.ts';
import type { ModelState } from '../lora/model-state.ts';
import { decodeModelState } from '../lora/state-file.ts';
import { type ExportOptions, type TrainedWith, writeAdapter } from '../models/adapter-files.ts';
import type { BaseModel } from '../models/base-model.ts';
import { type Catalogue, defaultBaseId } from '../models/catalogue.ts';
import { AppError } from '../shared/errors.ts';
import { decodeLocalParameters, keptParts, withKept } from '../site/local-parameters.ts';
import { leavesUnchanged } from '../site/make-update.ts';
import { frozenBaseKey, frozenBaseSchema } from '../site/round-state.ts';
import type { BlobStore } from '../store/blob-store.ts';
import type { AdapterRecord } from '../store/records.ts';
import type { ReadOnlyStore } from '../store/store.ts';
import { sumIntoAdapter } from '../strategy/frozen-base-adapter.ts';
import { applyFrozenBaseDelta } from '../strategy/frozen-base-delta.ts';
import { getStrategy } from '../strategy/registry.ts';
import { createRunState } from '../strategy/run-state.ts';
import type { FrozenBaseDelta } from '../strategy/strategy.ts';
import { decodeFrozenBase, decodeGlobalState, decodeUpdate } from '../strategy/wire/wire.ts';

export interface ExportSources {
  store: ReadOnlyStore;
  blobs: BlobStore;
  catalogue: Catalogue;
}

/**
 * @param target the folder (`peft`) or file to write
 * @throws AppError NOT_FOUND for an unknown hash; CONFIG_INVALID when the files cannot say what the run made;
 *   MODEL_UNKNOWN, and what `writeAdapter` throws
 */
export async function exportAdapterOf(
  sources: ExportSources,
  sha256: string,
  target: string,
  options: ExportOptions,
): Promise<void> {
  const row = sources.store.adapters.get(sha256);
  if (row === null || !sources.blobs.has(sha256))
    throw new AppError('NOT_FOUND', 'This adapter is not in the data folder any more.');
  const run = sources.store.runs.get(row.runId);
  if (run === null) {
    const base = await sources.catalogue.load(defaultBaseId);
    return writeAdapter(target, decodeModelState(await sources.blobs.read(sha256), 'adapter'), base, options);
  }
  const config = runConfigSchema.parse(run.config);
  const base = await sources.catalogue.load(
    await sources.catalogue.resolve(config.baseId, config.baseSha256),
  );
  const { state, frozenBaseDelta } = await readAdapter(sources, row, config, base);
  const whole =
    (options.format ?? 'peft') === 'peft'
      ? await sumIntoAdapter(frozenBaseDelta, state)
      : applyFrozenBaseDelta(base, frozenBaseDelta, state);
  await writeAdapter(target, whole, base, { ...options, ...trainedWith(config) });
}

function trainedWith({ training }: RunConfig): TrainedWith {
  const { loraDropout, head, arcScale } = training;
  return { loraDropout, ...(head === 'arcface' ? { arcScale } : {}) };
}

interface RunAdapter {
  state: ModelState;
  frozenBaseDelta: FrozenBaseDelta;
}

async function readAdapter(
  sources: ExportSources,
  row: AdapterRecord,
  config: RunConfig,
  base: BaseModel,
): Promise<RunAdapter> {
  return row.kind === 'global' ? readGlobal(sources, row, config, base) : readOwn(sources, row, config, base);
}

async function readGlobal(
  { store, blobs }: ExportSources,
  { sha256, runId, round }: AdapterRecord,
  config: RunConfig,
  base: BaseModel,
): Promise<RunAdapter> {
  const plan = planOf(config, round + 1);
  const { a, b, head } = keptParts(config, plan);
  // Of what a site keeps the coordinator has the first values only: an adapter of those would look whole and be none.
  if (a || b || head) {
    throw new AppError(
      'CONFIG_INVALID',
      `In this run each site keeps ${head ? 'its head' : 'some of its factors'} to itself; the coordinator does not have it.`,
      { action: 'Export an adapter at a site: there it is whole.' },
    );
  }
  const initial = createRunState(config, base);
  const context = { config, base, initial };
  const parts = store.rounds
    .listOfRun(runId)
    .flatMap((record) => (record.round <= round ? (record.frozenBaseSha256 ?? []) : []));
  const frozenBaseDelta = await readFrozenBase(blobs, parts, context);
  const state = decodeGlobalState(await blobs.read(sha256), 'adapter', { ...context, plan });
  return { state, frozenBaseDelta };
}

async function readFrozenBase(
  blobs: BlobStore,
  parts: readonly string[],
  context: Parameters<typeof decodeFrozenBase>[2],
): Promise<ModelState[]> {
  const frozenBaseDelta: ModelState[] = [];
  for (const part of parts)
    frozenBaseDelta.push(decodeFrozenBase(await blobs.read(part), 'a part under the adapter', context));
  return frozenBaseDelta;
}

/** A site's update with what the site kept to itself: its own model after the round. */
async function readOwn(
  { store, blobs }: ExportSources,
  { sha256, runId, round }: AdapterRecord,
  config: RunConfig,
  base: BaseModel,
): Promise<RunAdapter> {
  const plan = planOf(config, round);
  const bytes = await blobs.read(sha256);
  const initial = createRunState(config, base);
  const context = { config, base, initial };
  const frozenBaseDelta = await readFrozenBase(blobs, partsAtSite(store, config, runId, round), context);
  if (leavesUnchanged({ config, plan }))
    return { state: decodeModelState(bytes, 'adapter'), frozenBaseDelta };

  const startSha256 = store.rounds.get(runId, round)?.startSha256;
  if (startSha256 === undefined || !blobs.has(startSha256))
    throw notHere('the state that it was trained from');
  const start = decodeGlobalState(await blobs.read(startSha256), 'global state', { ...context, plan });
  const state = decodeUpdate(bytes, 'adapter', { config, plan, base, start });
  const memory = store.siteMemory.newestBefore(runId, round + 1);
  if (memory?.round !== round) {
    if (Object.values(keptParts(config, plan)).includes(true)) throw notHere('the part that the site kept');
    return { state, frozenBaseDelta };
  }
  const own = decodeLocalParameters(await blobs.read(memory.sha256), "the site's own part", start);
  return { state: withKept(state, own.kept), frozenBaseDelta };
}

/** Parts under a site's update of a round; a site keeps those of its newest run. */
function partsAtSite(store: ReadOnlyStore, config: RunConfig, runId: string, round: number): string[] {
  const { strategy, initiatingMode, initiatingRounds } = config;
  // After every round a stack of factors; after an initiating stage of base weights, once, those weights.
  const isInitiated = initiatingMode !== 'lora' && initiatingRounds > 0 && round >= initiatingRounds;
  const count = strategy === 'flora-stack' ? round : strategy === 'sa-fedlora' && isInitiated ? 1 : 0;
  if (count === 0) return [];
  const parts =
    store.runs.list()[0]?.id === runId ? (store.settings.get(frozenBaseKey, frozenBaseSchema) ?? []) : [];
  if (parts.length < count) throw notHere('what the run had put under it');
  return parts.slice(0, count);
}

function notHere(what: string): AppError {
  return new AppError(
    'NOT_FOUND',
    `The adapter alone is not enough: ${what} is not in the data folder any more.`,
    {
      action: 'Export a newer adapter, or the result of a round at the coordinator.',
    },
  );
}

const planOf = (config: RunConfig, round: number) =>
  getStrategy(config.strategy).configureTrain(config, Math.min(round, config.rounds - 1));
