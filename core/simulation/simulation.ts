/** The simulation: prepares an experiment's model and images once, and runs what is not in its results yet. */
import { readdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { ImportProgress } from '../data/import-folder.ts';
import type { ComputeSettings } from '../engine/devices/device-choice.ts';
import { createFaceDetector } from '../engine/faces/detector.ts';
import { createOnnxRuntimeProducts } from '../engine/onnxruntime/matrix-products.ts';
import { type Catalogue, createCatalogue } from '../models/catalogue.ts';
import { measureEmbeddingLength } from '../policy/leak-test.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { lockDataFolder } from '../store/data-folder.ts';
import { makeFolder } from '../store/make-folder.ts';
import { prepareData, type SimulationData } from './dataset.ts';
import { describeMachine, readVersions } from './environment.ts';
import { expandExperiment } from './expand.ts';
import type { Experiment } from './experiment.ts';
import type { RoundRecord, RunLine } from './record.ts';
import { openResults, type Results } from './results.ts';
import { forgetRun, type SimulatedRun, type SimulationContext, simulateRun } from './simulate-run.ts';
import { createTrainerPool } from './trainer-pool.ts';

export interface SimulationOptions {
  experiment: Experiment;
  /** Anneal's version, for the results. */
  version: string;
  /** The installation's base models, looked up where the experiment names one by its id; only built-in ones when absent. */
  modelsFolder?: string | undefined;
  logger: Logger;
  signal: AbortSignal;
  onImport?: ((progress: ImportProgress) => void) | undefined;
}

/** An experiment whose output folder is locked, with its images and its model at hand. */
export interface Simulation {
  readonly runs: readonly SimulatedRun[];
  readonly data: Pick<SimulationData, 'setAside' | 'withoutConsent'> & { images: number };
  readonly results: Results;
  /**
   * Runs those that are not finished, several at a time, and appends a line for each. A run that fails is recorded,
   * and the others go on.
   * @returns the lines written by this call
   * @throws AppError CANCELLED when the signal was aborted, DISK_FULL; finished runs are kept
   */
  run(runs: readonly SimulatedRun[], options: RunOptions): Promise<RunLine[]>;
  close(): void;
}

export interface RunOptions {
  /** Trainer processes; default: one for each processor core. */
  workers?: number | undefined;
  /** Threads of each trainer process; default: the cores shared out. */
  threads?: number | undefined;
  /** Runs at the same time; default: one more than there are trainers, so that none waits for a coordinator. */
  atOnce?: number | undefined;
  device?: ComputeSettings['device'] | undefined;
  onEvent?: ((event: SimulationEvent) => void) | undefined;
}

export type SimulationEvent =
  | { type: 'run-started'; run: SimulatedRun }
  | { type: 'round'; run: SimulatedRun; round: RoundRecord }
  | { type: 'run-ended'; run: SimulatedRun; line: RunLine };

const workName = 'work';

export function outFolderUnusable(cause: unknown): AppError {
  return new AppError('DATA_FOLDER_UNUSABLE', 'The output folder of the experiment cannot be created.', {
    action: 'Choose one that you can write to with --out.',
    cause,
  });
}

/**
 * Locks the output folder, imports the base model and the images where that was not done, and works out the runs.
 * @throws AppError DATA_FOLDER_IN_USE, and what `prepareData`, `expandExperiment` and an import of a model throw
 */
export async function openSimulation(options: SimulationOptions): Promise<Simulation> {
  const { experiment, signal } = options;
  const workFolder = join(experiment.out, workName);
  try {
    makeFolder(experiment.out);
    // Faces and pseudonyms are for this account alone; results are there to be shown.
    makeFolder(workFolder, { mode: 0o700 });
  } catch (cause) {
    const known = toAppError(cause);
    throw known.code === 'INTERNAL' ? outFolderUnusable(cause) : known;
  }
  const lock = lockDataFolder(workFolder);
  try {
    const { catalogue, modelsFolder, baseId } = await prepareBase(options, join(workFolder, 'models'));
    const base = await catalogue.load(baseId);
    const data = await prepareData({
      data: experiment.data,
      startDetector: () => createFaceDetector(),
      folder: join(workFolder, 'images'),
      onProgress: options.onImport,
      signal,
    });
    const runs = await expandExperiment(experiment, base, data);
    const results = await openResults(experiment.out);
    const { setAside, withoutConsent, images } = data;
    return {
      runs,
      data: { setAside, withoutConsent, images: images.length },
      results,
      async run(chosen, runOptions) {
        await clearAway(workFolder, results);
        const place = { workFolder, crops: data.blobs, catalogue, modelsFolder, results };
        return runAll(chosen, place, options, runOptions);
      },
      close: () => lock.release(),
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** The model from its path into the simulation's own models folder, or by its id from the installation's. */
async function prepareBase(
  { experiment, modelsFolder: installed }: SimulationOptions,
  own: string,
): Promise<{ catalogue: Catalogue; modelsFolder: string; baseId: string }> {
  const { path, ...settings } = experiment.base;
  const modelsFolder = path === undefined && installed !== undefined ? installed : own;
  const catalogue = createCatalogue(modelsFolder);
  if (path === undefined) return { catalogue: measured(catalogue), modelsFolder, baseId: settings.id! };
  // The same model with other settings is another one; without an id of its own it gets one that says so.
  const { imageSize } = settings;
  const id = settings.id ?? (imageSize === undefined ? undefined : `base-${imageSize}`);
  const { id: baseId } = await catalogue.import(path, { ...settings, ...(id === undefined ? {} : { id }) });
  return { catalogue: measured(catalogue), modelsFolder, baseId };
}

/** A hospital's import measures how long embeddings are; what was imported here, or long ago, is measured when it is loaded. */
function measured(catalogue: Catalogue): Catalogue {
  const lengths = new Map<string, Promise<number>>();
  return {
    ...catalogue,
    async load(id) {
      const base = await catalogue.load(id);
      if (base.embeddingLength !== undefined) return base;
      const length = lengths.get(base.sha256) ?? measureEmbeddingLength(base);
      lengths.set(base.sha256, length);
      return { ...base, embeddingLength: await length };
    },
  };
}

/** Folders of runs whose line was written before they could be deleted. */
async function clearAway(workFolder: string, results: Results): Promise<void> {
  const names = await readdir(join(workFolder, 'runs')).catch(() => []);
  for (const name of names) {
    if (results.finished.has(name)) await forgetRun(workFolder, name);
    else if (name.endsWith('.tmp'))
      await rm(join(workFolder, 'runs', name), { recursive: true, force: true });
  }
}

interface Place {
  workFolder: string;
  crops: BlobStore;
  catalogue: Catalogue;
  modelsFolder: string;
  results: Results;
}

async function runAll(
  runs: readonly SimulatedRun[],
  { workFolder, crops, catalogue, modelsFolder, results }: Place,
  { version, logger, signal }: SimulationOptions,
  options: RunOptions,
): Promise<RunLine[]> {
  const cores = availableParallelism();
  const workers = options.workers ?? cores;
  const threads = options.threads ?? Math.max(1, Math.floor(cores / workers));
  const atOnce = options.atOnce ?? workers + 1;
  const waiting = runs.filter(({ id }) => !results.finished.has(id));
  const versions = await readVersions(version);
  await using pool = createTrainerPool({ workers, modelsFolder, logger });
  const context: SimulationContext = {
    workFolder,
    crops,
    catalogue,
    pool,
    compute: { engine: 'onnxruntime', device: options.device ?? 'cpu', threads },
    products: createOnnxRuntimeProducts(),
    versions,
    machine: describeMachine(workers, threads),
    logger,
  };
  // What stops one of them for another reason than its own failure stops all: a full disk, for instance.
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const lines: RunLine[] = [];
  async function work(): Promise<void> {
    for (let run = waiting.shift(); run !== undefined; run = waiting.shift()) {
      const current = run;
      options.onEvent?.({ type: 'run-started', run: current });
      const line = await simulateRun(current, context, {
        signal: both,
        onRound: (round) => options.onEvent?.({ type: 'round', run: current, round }),
      });
      await results.append(line);
      await forgetRun(workFolder, current.id);
      lines.push(line);
      options.onEvent?.({ type: 'run-ended', run: current, line });
    }
  }
  const lanes = Array.from({ length: Math.min(atOnce, waiting.length) }, () =>
    work().catch((error) => {
      stop.abort();
      throw error;
    }),
  );
  const ends = await Promise.allSettled(lanes);
  const errors = ends.flatMap((end) => (end.status === 'rejected' ? [toAppError(end.reason)] : []));
  const worst = errors.find(({ code }) => code !== 'CANCELLED') ?? errors[0];
  if (worst !== undefined) throw worst;
  return lines;
}
