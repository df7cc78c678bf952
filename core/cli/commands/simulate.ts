/** `anneal simulate EXPERIMENT.yaml`: many federations on this machine, with the code that hospitals run. */
import { join, relative, resolve } from 'node:path';
import type { Command } from 'commander';
import { createFileLogger } from '../../agent/log-file.ts';
import { defaultDataFolder } from '../../agent/paths.ts';
import { version } from '../../agent/version.ts';
import { type DeviceKind, deviceKinds } from '../../engine/engine.ts';
import { belowFloor } from '../../evaluation/floors.ts';
import { AppError, toAppError } from '../../shared/errors.ts';
import { readExperiment } from '../../simulation/experiment.ts';
import { floorsOfRun, type RunLine } from '../../simulation/record.ts';
import { writeReport } from '../../simulation/report/write-report.ts';
import { describePartition, selectRuns } from '../../simulation/run-selection.ts';
import type { SimulatedRun } from '../../simulation/simulate-run.ts';
import { openSimulation, outFolderUnusable, type Simulation } from '../../simulation/simulation.ts';
import { readWholeNumber } from '../arguments.ts';
import { formatBytes, formatCount, formatPercent, formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { createSimulationProgress } from '../simulate/progress.ts';
import { interruptedExitCode, onStopSignal } from '../stop-signals.ts';

interface Options {
  out?: string;
  list: boolean;
  only?: string[];
  workers?: number;
  threads?: number;
  device: string;
  data?: string;
  json: boolean;
}

/** Runs to do, and those that are done. */
function stateOf(simulation: Simulation, run: SimulatedRun): string {
  return simulation.results.lines.get(run.id)?.status ?? 'to do';
}

function listRuns(simulation: Simulation, runs: readonly SimulatedRun[], asJson: boolean): void {
  const rows = runs.map((run) => ({
    id: run.id,
    state: stateOf(simulation, run),
    label: run.label,
    strategy: run.config.strategy,
    partition: describePartition(run.partition),
    sites: run.sites.length,
    seed: run.seed,
    rounds: run.config.rounds,
    parametersPlanned: run.planned.parametersSent,
    bytesPlanned: run.planned.bytesSent,
  }));
  if (asJson) {
    printJson(rows);
    return;
  }
  printLine(
    formatTable(
      ['run', 'state', 'strategy', 'partition', 'sites', 'seed', 'rounds', 'values to send', 'bytes to send'],
      rows.map((row) => [
        row.id.slice(0, 8),
        row.state,
        row.label,
        row.partition,
        String(row.sites),
        String(row.seed),
        String(row.rounds),
        formatCount(row.parametersPlanned),
        formatBytes(row.bytesPlanned),
      ]),
      [4, 5, 6, 7, 8],
    ),
  );
}

function describeLines(lines: readonly RunLine[]): string {
  const table = formatTable(
    [
      'run',
      'strategy',
      'partition',
      'sites',
      'seed',
      'accuracy',
      'best',
      'untrained 1-NN',
      'class means',
      'sent',
    ],
    lines.map((line) => [
      line.id.slice(0, 8),
      line.label,
      describePartition(line.partition),
      String(line.sites),
      String(line.seed),
      line.status === 'failed' ? 'failed' : formatPercent(line.final.accuracy),
      line.status === 'failed' ? line.error.code : formatPercent(line.final.bestAccuracy),
      line.status === 'failed' ? '–' : formatPercent(floorsOfRun(line).untrained),
      line.status === 'failed' ? '–' : formatPercent(floorsOfRun(line).classMeans),
      line.status === 'failed' ? '–' : formatBytes(line.totals.bytesSent),
    ]),
    [3, 4, 5, 6, 7, 8, 9],
  );
  return [table, ...lines.flatMap(describeFloor)].join('\n');
}

function describeFloor(line: RunLine): string[] {
  if (line.status === 'failed') return [];
  const below = belowFloor(floorsOfRun(line));
  return below === null ? [] : [`${line.id.slice(0, 8)}: ${below}`];
}

/** A line of the results with what it must be compared with. */
function withFloors(line: RunLine): object {
  if (line.status === 'failed') return line;
  const floors = floorsOfRun(line);
  return { ...line, floors, belowFloor: belowFloor(floors) };
}

function readDevice(text: string): DeviceKind {
  const kind = deviceKinds.find((known) => known === text);
  if (kind !== undefined) return kind;
  throw new AppError('CONFIG_INVALID', `--device: expected one of ${deviceKinds.join(', ')}.`);
}

/** It makes the output folder: the first place to notice that there cannot be one. */
function openLog(outFolder: string): ReturnType<typeof createFileLogger> {
  try {
    return createFileLogger(join(outFolder, 'logs'), 'simulate');
  } catch (cause) {
    const known = toAppError(cause);
    throw known.code === 'INTERNAL' ? outFolderUnusable(cause) : known;
  }
}

/** @returns the exit code */
async function simulate(file: string, options: Options, signal: AbortSignal): Promise<number> {
  const written = await readExperiment(file);
  const experiment = options.out === undefined ? written : { ...written, out: resolve(options.out) };
  const device = readDevice(options.device);
  const progress = createSimulationProgress(options.json ? process.stderr : process.stdout);
  const logger = openLog(experiment.out);
  try {
    const simulation = await openSimulation({
      experiment,
      version,
      modelsFolder: join(options.data ?? defaultDataFolder(), 'models'),
      logger,
      signal,
      onImport: (at) => progress.onImport(at),
    });
    try {
      const runs = options.only === undefined ? simulation.runs : selectRuns(simulation.runs, options.only);
      if (options.list) {
        progress.end();
        listRuns(simulation, runs, options.json);
        return 0;
      }
      const done = runs.filter(({ id }) => simulation.results.finished.has(id));
      const rounds = done.reduce((sum, run) => sum + run.config.rounds, 0);
      progress.begin(
        runs.filter((run) => !done.includes(run)),
        { runs: done.length, rounds },
      );
      const lines = await simulation.run(runs, {
        workers: options.workers ?? (device === 'cpu' ? undefined : 1),
        threads: options.threads,
        device,
        onEvent: (event) => progress.onEvent(event),
      });
      progress.end();
      const report = join(experiment.out, 'report.html');
      await writeReport([...simulation.results.lines.values()], report, { title: experiment.name });
      const all = runs.flatMap(({ id }) => simulation.results.lines.get(id) ?? []);
      if (options.json) {
        const runs = all.map(withFloors);
        printJson({ results: simulation.results.file, report, ran: lines.length, runs });
      } else {
        printLine(describeLines(all));
        printLine(`Results: ${nearby(simulation.results.file)}   report: ${nearby(report)}`);
      }
      return all.some(({ status }) => status === 'failed') ? 1 : 0;
    } finally {
      simulation.close();
    }
  } finally {
    progress.end();
  }
}

const nearby = (path: string) => relative(process.cwd(), path) || '.';

export function addSimulateCommand(program: Command): void {
  program
    .command('simulate')
    .description('run an experiment: strategies, seeds, partitions and numbers of sites, on this machine')
    .argument('<experiment>', 'YAML file, see docs/simulation.md')
    .option('--out <folder>', 'folder for results; the same command continues from what is there')
    .option('--list', 'list the runs and what each would send; run nothing', false)
    .option('--only <runs...>', 'only these: ids, or words such as "sa-fedlora, seed 2"')
    .option('--workers <number>', 'trainer processes (default: one per processor core)', readWholeNumber)
    .option(
      '--threads <number>',
      'threads per trainer process (default: the cores divided among them)',
      readWholeNumber,
    )
    .option('--device <kind>', `where trainers compute: ${deviceKinds.join(', ')}`, 'cpu')
    .option('--data <folder>', 'data folder with imported base models')
    .option('--json', 'print JSON; progress goes to standard error', false)
    .action(async (file: string, options: Options) => {
      for (const name of ['workers', 'threads'] as const) {
        if (options[name] === 0) throw new AppError('CONFIG_INVALID', `--${name}: expected at least 1.`);
      }
      const abort = new AbortController();
      const ignore = onStopSignal(() => abort.abort());
      try {
        process.exitCode = await simulate(file, options, abort.signal);
      } catch (thrown) {
        if (!abort.signal.aborted) throw thrown;
        process.stderr.write('Stopped. Run the same command again to continue from here.\n');
        process.exitCode = interruptedExitCode;
      } finally {
        ignore();
      }
    });
}
