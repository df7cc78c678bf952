/** `anneal report`: the HTML report of the simulation's results, again or of several files together. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { AppError } from '../../shared/errors.ts';
import { plural } from '../../shared/text.ts';
import { type RunLine, readRunLines } from '../../simulation/record.ts';
import { figuresOf } from '../../simulation/report/figures.ts';
import { scenariosOf } from '../../simulation/report/scenarios.ts';
import { resultTable, toCsv, toLatex, toMarkdown } from '../../simulation/report/tables.ts';
import { writeReport } from '../../simulation/report/write-report.ts';
import { resultsName } from '../../simulation/results.ts';
import { readNumber } from '../arguments.ts';
import { printJson, printLine } from '../output.ts';

const formats = { markdown: toMarkdown, csv: toCsv, latex: toLatex } as const;

function readAccuracy(text: string): number {
  const percent = readNumber(text);
  if (percent <= 0 || percent > 100) throw new InvalidArgumentError('Give a percentage above 0, up to 100.');
  return percent / 100;
}

interface Options {
  out?: string;
  title?: string;
  target?: number;
  table?: keyof typeof formats;
  json: boolean;
}

export function addReportCommand(program: Command): void {
  program
    .command('report')
    .description('write a report on the results of "anneal simulate"')
    .argument('<files...>', 'runs.jsonl of one or more experiments, or the folders that hold them')
    .option('--out <file>', 'HTML file to write')
    .option('--title <text>', 'heading of the report')
    .option(
      '--target <percent>',
      'accuracy for "rounds to target" (default: 95 % of the best method)',
      readAccuracy,
    )
    .addOption(new Option('--table <format>', 'print the tables of results').choices(Object.keys(formats)))
    .option('--json', 'print JSON', false)
    .action(async (files: string[], options: Options) => {
      if (options.out === undefined && options.table === undefined && !options.json) {
        throw new AppError('CONFIG_INVALID', 'The command does not say which output to make.', {
          action: 'Add --out FILE.html, --table or --json.',
        });
      }
      const runs = await readAll(files);
      if (options.out !== undefined) await writeReport(runs, options.out, options);
      if (options.json) printJson(asJson(runs, options.target));
      else if (options.table !== undefined) printTables(runs, options.table, options.target);
      else printLine(`Report of ${plural(runs.length, 'run')} written.`);
    });
}

/** A run that is in several files counts once. */
async function readAll(files: readonly string[]): Promise<RunLine[]> {
  const runs = new Map<string, RunLine>();
  for (const file of files) {
    const isFolder = await stat(file).then(
      (status) => status.isDirectory(),
      () => false,
    );
    for (const run of await readRunLines(isFolder ? join(file, resultsName) : file)) runs.set(run.id, run);
  }
  if (runs.size === 0) throw new AppError('CONFIG_INVALID', 'There is no run to report.');
  return [...runs.values()];
}

function asJson(runs: readonly RunLine[], target: number | undefined) {
  return scenariosOf(runs).map((scenario) => ({
    title: scenario.title,
    failed: scenario.failed.length,
    ...figuresOf(scenario, target),
  }));
}

function printTables(
  runs: readonly RunLine[],
  format: keyof typeof formats,
  target: number | undefined,
): void {
  const scenarios = scenariosOf(runs);
  for (const scenario of scenarios) {
    if (scenarios.length > 1) printLine(format === 'latex' ? `% ${scenario.title}` : `# ${scenario.title}`);
    printLine(formats[format](resultTable(figuresOf(scenario, target))));
    if (scenarios.length > 1) printLine();
  }
}
