/** From an experiment to its runs: strategies × seeds × numbers of sites × partitions. */
import { completeRunConfig, parseRunSettings } from '../coordinator/run-settings.ts';
import { readLabelsColumn } from '../data/labels-csv.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';
import { hashJson } from '../shared/hash.ts';
import { mixSeed } from '../shared/random.ts';
import { plural } from '../shared/text.ts';
import { planRun } from '../strategy/plan.ts';
import type { SimulationData } from './dataset.ts';
import { type Experiment, labelOf, type StrategyEntry } from './experiment.ts';
import type { Partition } from './record.ts';
import type { SimulatedRun } from './simulate-run.ts';
import { chooseImages, type SiteImages, spreadImages, type UsedImages } from './spread.ts';

/** Where the simulation's own defaults differ from those of a run between hospitals. */
const simulationDefaults = {
  /** A simulated site may wait long for a trainer: rounds end with the sites' work, not with the clock. */
  roundDeadlineMs: 7 * 24 * 3_600_000,
  /** The sites of a simulation are honest, and methods are compared as their papers have them, without guards. */
  robust: { rule: 'mean' },
  weightCap: null,
};

/**
 * All runs of an experiment; those of one strategy follow each other, since what is compiled for one serves the next.
 * @throws AppError CONFIG_INVALID naming strategy and setting; NOT_ENOUGH_DATA; CSV_MALFORMED
 */
export async function expandExperiment(
  experiment: Experiment,
  base: BaseModel,
  data: SimulationData,
): Promise<SimulatedRun[]> {
  const used = chooseImages(data.images, experiment);
  const dataSha256 = hashImages(used);
  const runs: SimulatedRun[] = [];
  for (const partition of experiment.partitions) {
    const column =
      partition.kind === 'column' ? await readLabelsColumn(data.labelsFile, partition.column) : undefined;
    // The column says how many sites there are.
    const counts = column === undefined ? experiment.sites : experiment.sites.slice(0, 1);
    for (const sites of new Set(counts)) {
      const { keepTogether, evaluationSpread } = experiment;
      const spread = new Map(
        [...new Set(experiment.seeds)].map((seed) => {
          const options = { partition, sites, keepTogether, evaluationSpread, column };
          return [seed, spreadImages(used, { ...options, seed: mixSeed(seed, 'partition') })] as const;
        }),
      );
      for (const strategy of experiment.strategies) {
        for (const [seed, places] of spread) {
          runs.push(
            createRun({
              experiment,
              base,
              dataSha256,
              classes: used.classes,
              partition,
              strategy,
              seed,
              places,
            }),
          );
        }
      }
    }
  }
  return runs;
}

interface RunParts {
  experiment: Experiment;
  base: BaseModel;
  dataSha256: string;
  classes: readonly string[];
  partition: Partition;
  strategy: StrategyEntry;
  seed: number;
  places: readonly SiteImages[];
}

function createRun(parts: RunParts): SimulatedRun {
  const { experiment, base, dataSha256, partition, strategy, seed, places } = parts;
  const { evaluateOn } = experiment;
  const label = labelOf(strategy);
  const config = configOf(parts);
  const decides = { config, policy: experiment.policy, dataSha256, evaluateOn, places: places.map(idsOf) };
  return {
    id: hashJson(decides),
    experiment: experiment.name,
    label,
    seed,
    partition,
    evaluateOn,
    config,
    policy: experiment.policy,
    dataSha256,
    sites: places,
    planned: planRun(config, base, places.length).totals,
  };
}

function configOf({ experiment, base, classes, strategy, seed, places }: RunParts) {
  const common = experiment.settings;
  const own = strategy.settings;
  const training = { ...record(common['training']), ...record(own['training']) };
  // As small as the sites allow: rounded counts would blur small test sets.
  const { minSmallCell: smallCell } = experiment.policy;
  const written = {
    ...simulationDefaults,
    smallCell,
    ...common,
    ...own,
    training,
    strategy: strategy.strategy,
  };
  const source = `The strategy "${labelOf(strategy)}"`;
  const settings = parseRunSettings({ ...written, baseId: base.id, classes: [...classes], seed }, source);
  // All sites that are drawn are waited for: a round that closes without a slow one could not be repeated.
  const quorum = Math.max(1, Math.ceil((settings.participation ?? 1) * places.length - 1e-9));
  if (settings.quorum !== undefined && settings.quorum > places.length) {
    // Between hospitals more sites may join; here the rounds would wait for ever.
    throw new AppError(
      'CONFIG_INVALID',
      `${source}: the quorum is ${plural(settings.quorum, 'site')}, but there are only ${places.length}.`,
      { action: 'Lower "quorum" in the experiment file, or leave it out to wait for all sites.' },
    );
  }
  const names = places.map(({ name }) => name);
  try {
    return completeRunConfig({ quorum, ...settings }, base, names.length, names);
  } catch (thrown) {
    if (!(thrown instanceof AppError)) throw thrown;
    throw new AppError(thrown.code, `${source}: ${thrown.message}`, {
      action: 'Correct the settings in the experiment file.',
      cause: thrown,
    });
  }
}

const record = (value: unknown): Record<string, unknown> =>
  value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {};

const idsOf = ({ siteId, name, train, evaluation, rare }: SiteImages) => ({
  siteId,
  name,
  train: train.map(({ sha256 }) => sha256),
  evaluation: evaluation.map(({ sha256 }) => sha256),
  ...(rare && { rare: rare.map(({ sha256 }) => sha256) }),
});

function hashImages({ train, evaluation, rare }: UsedImages): string {
  const list = (images: UsedImages['train']) =>
    images.map(({ sha256, cropSha256, label, subject }) => [sha256, cropSha256, label, subject]);
  return hashJson({ train: list(train), evaluation: list(evaluation), ...(rare && { rare: list(rare) }) });
}
