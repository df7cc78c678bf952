/** Search and table of one data set. Both go on where an interrupted call stopped. */
import { join } from 'node:path';
import { createFileLogger } from '../../../core/agent/log-file.ts';
import { version } from '../../../core/agent/version.ts';
import type { SimulationProgress } from '../../../core/cli/simulate/progress.ts';
import type { Experiment } from '../../../core/simulation/experiment.ts';
import type { FinishedRun, RunLine } from '../../../core/simulation/record.ts';
import { scenariosOf } from '../../../core/simulation/report/scenarios.ts';
import { openSimulation } from '../../../core/simulation/simulation.ts';
import { chooseRates } from './choice.ts';
import { claimsOf } from './claims.ts';
import { type Place, searchExperiment, tableExperiment, trialsOf } from './experiments.ts';
import { type Part, readClock, writeClock, writePart } from './part.ts';
import type { DataSet, Plan } from './plan-of-runs.ts';
import { renderPlots } from './plots.ts';
import { rowsOf, targetOf } from './table-rows.ts';

export interface RunPlace extends Place {
  /** Trainer processes; default: one for each processor core. */
  workers?: number | undefined;
  signal: AbortSignal;
  createProgress(): SimulationProgress;
}

/**
 * @throws AppError CANCELLED when the signal was aborted, and what the simulation throws
 * @throws Error when all trials or all seeds of a method failed
 */
export async function runDataSet(plan: Plan, dataSet: DataSet, place: RunPlace): Promise<Part> {
  const before = await readClock(place.outFolder);
  const startMs = performance.now();
  const wall = () => before + (performance.now() - startMs) / 1000;
  try {
    const trials = trialsOf(dataSet);
    const tried = await runExperiment(searchExperiment(plan, dataSet, place), place);
    const runOf = new Map(finishedOf(tried).map((run) => [run.label, run]));
    const { rates, search } = chooseRates(dataSet.name, trials, runOf);
    for (const { name, follows } of dataSet.methods) {
      if (follows !== undefined) rates.set(name, rates.get(follows)!);
    }
    const lines = await runExperiment(tableExperiment(plan, dataSet, place, rates), place);
    const part = partOf(dataSet, { tried, lines, search, wall: wall() });
    await writePart(place.outFolder, part);
    return part;
  } finally {
    await writeClock(place.outFolder, wall());
  }
}

/** @returns one line for each of its runs, in its order */
async function runExperiment(experiment: Experiment, place: RunPlace): Promise<RunLine[]> {
  const progress = place.createProgress();
  const logger = createFileLogger(join(place.outFolder, 'logs'), 'paper');
  const { signal } = place;
  try {
    const simulation = await openSimulation({
      ...{ experiment, version, logger, signal },
      onImport: (at) => progress.onImport(at),
    });
    try {
      const done = simulation.runs.filter(({ id }) => simulation.results.finished.has(id));
      const rounds = done.reduce((sum, run) => sum + run.config.rounds, 0);
      const waiting = simulation.runs.filter((run) => !done.includes(run));
      progress.begin(waiting, { runs: done.length, rounds });
      // Seed by seed, so that a table that is stopped early has whole seeds: "--seeds 1" and "--seeds 2" can be had first.
      const bySeed = simulation.runs.toSorted((a, b) => a.seed - b.seed);
      await simulation.run(bySeed, { workers: place.workers, onEvent: (event) => progress.onEvent(event) });
      return simulation.runs.map(({ id }) => simulation.results.lines.get(id)!);
    } finally {
      simulation.close();
    }
  } finally {
    progress.end();
  }
}

function partOf(
  dataset: DataSet,
  found: { tried: RunLine[]; lines: RunLine[]; search: Part['search']; wall: number },
): Part {
  const { tried, lines, search, wall } = found;
  const finished = finishedOf(lines);
  const missing = dataset.methods.find(({ name }) => !finished.some(({ label }) => label === name));
  if (missing !== undefined)
    throw new Error(`All runs of ${missing.name} on ${dataset.name} failed; see the log.`);
  const scenario = scenariosOf(lines)[0]!;
  const rows = rowsOf(dataset.name, scenario, Number(dataset.settings['initiatingRounds'] ?? 0));
  const [first] = finished as [FinishedRun];
  const compute = (runs: readonly FinishedRun[]) =>
    runs.reduce((sum, { totals }) => sum + totals.computeMs, 0) / 1000;
  return {
    dataset,
    images: {
      train: count(first, 'train'),
      validation: count(finishedOf(tried)[0]!, 'evaluation'),
      test: count(first, 'evaluation'),
    },
    target: targetOf(scenario),
    rows,
    search,
    claims: claimsOf(rows),
    failures: [...tried, ...lines].flatMap((line) =>
      line.status === 'failed'
        ? [{ dataset: dataset.name, run: `${line.label}, seed ${line.seed}`, error: line.error.message }]
        : [],
    ),
    plots: renderPlots(scenario),
    seconds: { searchCompute: compute(finishedOf(tried)), tableCompute: compute(finished), wall },
    versions: first.versions,
    machine: first.machine,
  };
}

const finishedOf = (lines: readonly RunLine[]) =>
  lines.filter((line): line is FinishedRun => line.status === 'finished');

function count({ siteData }: FinishedRun, which: 'train' | 'evaluation'): number {
  return siteData.flatMap((site) => Object.values(site[which])).reduce((sum, value) => sum + value, 0);
}
