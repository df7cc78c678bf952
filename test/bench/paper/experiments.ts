/** The simulation's experiments behind the table: a search on validation images, then the runs on test images. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Experiment, experimentSchema } from '../../../core/simulation/experiment.ts';
import type { DataSet, Method, Plan, TunedRate } from './plan-of-runs.ts';

/** Folders that an experiment needs. */
export interface Place {
  /** Holds `data` and `models`. */
  sharedFolder: string;
  /** For the runs of one data set. */
  outFolder: string;
}

export interface Trial {
  readonly method: string;
  readonly tunes: TunedRate;
  readonly rate: number;
  /** What the simulation calls its run. */
  readonly label: string;
}

/** Every method's trials: as many for each, on the same sites and images. Methods that follow another have none. */
export function trialsOf(dataSet: DataSet): Trial[] {
  return dataSet.methods
    .filter(({ follows }) => follows === undefined)
    .flatMap(({ name, tunes, ratesTimes = 1 }) =>
      dataSet.rates[tunes].map((value) => {
        const rate = value * ratesTimes;
        return { method: name, tunes, rate, label: `${name}, ${tunes} ${rate}` };
      }),
    );
}

/** Test images have no part in it: a share of the training images is held out instead. */
export function searchExperiment(plan: Plan, dataSet: DataSet, place: Place): Experiment {
  const methodOf = new Map(dataSet.methods.map((method) => [method.name, method]));
  return experimentOf(plan, dataSet, place, {
    name: `${dataSet.name}, search`,
    seeds: [plan.searchSeed],
    evaluateOn: 'validation',
    settings: { ...dataSet.settings, ...dataSet.searchSettings },
    strategies: trialsOf(dataSet).map(({ method, rate, label }) => entry(methodOf.get(method)!, rate, label)),
  });
}

/** @param rates of every method by its name, as the search chose them */
export function tableExperiment(
  plan: Plan,
  dataSet: DataSet,
  place: Place,
  rates: ReadonlyMap<string, number>,
): Experiment {
  return experimentOf(plan, dataSet, place, {
    name: dataSet.name,
    seeds: [...plan.seeds],
    evaluateOn: 'test',
    settings: dataSet.settings,
    strategies: dataSet.methods.map((method) => entry(method, rates.get(method.name)!, method.name)),
  });
}

function entry({ strategy, settings, tunes }: Method, rate: number, name: string) {
  return { name, strategy, settings: { ...settings, training: { [tunes]: rate } } };
}

function experimentOf(
  { sites, alpha }: Plan,
  { data, base, validationShare, validationPerClass }: DataSet,
  { sharedFolder, outFolder }: Place,
  parts: Pick<Experiment, 'name' | 'seeds' | 'evaluateOn' | 'settings'> & { strategies: unknown[] },
): Experiment {
  const perClass = { ...data.maxPerClass };
  if (parts.evaluateOn === 'validation' && validationPerClass !== undefined)
    perClass.test = validationPerClass;
  const parsed = experimentSchema.parse({
    ...parts,
    data: {
      ...data,
      images: join(sharedFolder, data.images),
      labels: join(sharedFolder, data.labels),
      alreadyCropped: true,
      maxPerClass: perClass,
    },
    base: base.path === undefined ? base : { ...base, path: join(sharedFolder, base.path) },
    sites,
    // Figures of methods, not of guards; a hospital's policy would leave out the classes with a single subject.
    policy: 'open',
    partitions: [{ dirichlet: alpha }],
    // Every subject has images of one class only, of which some lie at several sites.
    keepTogether: 'image',
    validationShare,
  });
  return { ...parsed, name: parts.name, out: outFolder };
}

/**
 * @param sharedFolder holds `data` and `models`
 * @throws Error naming what is missing
 */
export function requireFiles(dataSets: readonly DataSet[], sharedFolder: string): void {
  const missing = dataSets
    .flatMap(({ needs }) => needs)
    .filter((path) => !existsSync(join(sharedFolder, path)));
  if (missing.length === 0) return;
  throw new Error(
    `The paper's table needs ${missing.map((path) => `../shared/${path}`).join(', ')} beside this repository, which is not there. Data and weights are no part of the repository; docs/results-discussion.md says what they are.`,
  );
}
