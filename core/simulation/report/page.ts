/** The report of a simulation's runs: one file without scripts that needs nothing else. */
import { plural } from '../../shared/text.ts';
import type { RunLine } from '../record.ts';
import { byRound, type ChartAxis, heatMap, lineChart, swatch } from './charts.ts';
import { figuresOf, type ScenarioFigures } from './figures.ts';
import { escapeHtml, style, table } from './html.ts';
import { type Course, type Method, type Scenario, scenariosOf } from './scenarios.ts';
import { resultTable, toCsv, toLatex, toMarkdown } from './tables.ts';

export interface ReportOptions {
  /** Heading; the experiments' names without it. */
  title?: string | undefined;
  /** Accuracy 0…1 for "rounds to target"; 95 % of the best method's without it. */
  target?: number | undefined;
}

const round: ChartAxis = { name: 'round', whole: true };
const percent = (value: number) => `${Number((100 * value).toFixed(1))} %`;
/** Where final traffic differs by more than this factor, bytes are drawn on a logarithmic axis. */
const wideRange = 20;

/** The whole page. Runs without a result are listed, not drawn. */
export function renderReport(runs: readonly RunLine[], options: ReportOptions = {}): string {
  const scenarios = scenariosOf(runs);
  const names = [...new Set(runs.map((run) => run.experiment))].join(', ');
  const title = options.title ?? (names === '' ? 'Simulation report' : names);
  const finished = runs.filter((run) => run.status === 'finished').length;
  const contents =
    scenarios.length < 2
      ? ''
      : `<nav aria-label="Contents"><ol>${scenarios.map((scenario, index) => `<li><a href="#s${index}">${escapeHtml(scenario.title)}</a></li>`).join('')}</ol></nav>`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}: Anneal</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><style>${style}</style></head><body>
<header><h1>${escapeHtml(title)}</h1>
<p>${finished} of ${plural(runs.length, 'run')} finished. Lines are means over seeds, bands and ± are 95 % confidence intervals of the mean (Student’s t); a single run has none.</p>${contents}</header>
<main>${scenarios.map((scenario, index) => section(scenario, index, options.target)).join('')}</main>
${repeatSection(runs)}
</body></html>
`;
}

function section(scenario: Scenario, index: number, target: number | undefined): string {
  const figures = figuresOf(scenario, target);
  const { methods } = scenario;
  return `<section id="s${index}" aria-labelledby="h${index}"><h2 id="h${index}">${escapeHtml(scenario.title)}</h2>
${methods.length === 0 ? '<p>No run in this part finished.</p>' : results(scenario, figures)}
${failures(scenario)}</section>`;
}

function results(scenario: Scenario, figures: ScenarioFigures): string {
  const shown = resultTable(figures);
  const legend = scenario.methods
    .map(
      ({ label }, index) => `<li><span aria-hidden="true">${swatch(index)}</span>${escapeHtml(label)}</li>`,
    )
    .join('');
  return `${table(shown.head, shown.rows, 'Results')}
<p class="note">${targetNote(figures)} Parameters and bytes count everything that was sent by and to all sites; the comparisons with FedAvg of the whole model and with LoRA at the largest rank are in parameters, for the same rounds and sites.</p>
${floorNotes(figures)}
${papers(shown)}
<ul class="legend" aria-label="Methods">${legend}</ul>
<div class="plots">${plots(scenario.methods)}</div>
${recallMap(scenario, figures)}`;
}

/** Which runs end below what their network did before training; nothing when none does. */
function floorNotes({ methods }: ScenarioFigures): string {
  const said = methods.flatMap(({ below }) => below);
  if (said.length === 0) return '';
  return `<ul class="warning" aria-label="Below their own floor">${said.map((line) => `<li>${escapeHtml(line)}</li>`).join('')}</ul>`;
}

function targetNote({ target }: ScenarioFigures): string {
  return target === null
    ? 'No run has an accuracy.'
    : `Rounds and megabytes to target count until a run first reaches an accuracy of ${percent(target)}; they cover the runs that do.`;
}

function papers(shown: ReturnType<typeof resultTable>): string {
  const texts: [string, string][] = [
    ['Markdown', toMarkdown(shown)],
    ['CSV', toCsv(shown)],
    ['LaTeX', toLatex(shown)],
  ];
  return texts
    .map(
      ([name, text]) =>
        `<details><summary>The table as ${name}</summary><pre tabindex="0">${escapeHtml(text)}</pre></details>`,
    )
    .join('');
}

function plots(methods: readonly Method[]): string {
  const totals = methods.map(({ sentBytes }) => sentBytes.at(-1)!);
  const logarithmic = Math.max(...totals) > wideRange * Math.min(...totals) && Math.min(...totals) > 0;
  const accuracy = { name: 'accuracy', format: percent, max: 1 };
  const share = { name: '', format: percent, min: 0, max: 1 };
  const overBytes = methods.map(({ accuracy: course, sentBytes }, style) => ({
    style,
    points: byRound(course).map(({ x, y }) => ({ x: sentBytes[x - 1]! / 1e6, y })),
  }));
  const megabytes: ChartAxis = {
    name: `MB sent, all sites both ways${logarithmic ? ' (logarithmic)' : ''}`,
    format: (value) => String(Number(value.toPrecision(3))),
    logarithmic,
  };
  return [
    overBytes.some(({ points }) => points.length > 0)
      ? figure('Accuracy against bytes sent', lineChart(overBytes, megabytes, accuracy))
      : '',
    byRounds('Accuracy by round', methods, (method) => method.accuracy, accuracy),
    byRounds(
      'Rank by round',
      methods,
      (method) => method.rank,
      { name: 'mean rank of layers', min: 0 },
      true,
    ),
    byRounds('Energy kept by round', methods, (method) => method.energyKept, {
      name: 'energy kept',
      format: percent,
      max: 1,
    }),
    byRounds('Drift between sites by round', methods, (method) => method.drift, {
      ...share,
      name: 'share of drift',
    }),
    byRounds('Privacy spent by round', methods, (method) => method.epsilon, { name: 'ε', min: 0 }),
  ].join('');
}

/** A plot over rounds; nothing when no method has the measure. */
function byRounds(
  title: string,
  methods: readonly Method[],
  courseOf: (method: Method) => Course,
  axis: ChartAxis,
  step = false,
): string {
  const lines = methods
    .map((method, style) => ({ style, step, points: byRound(courseOf(method)) }))
    .filter(({ points }) => points.length > 0);
  return lines.length === 0 ? '' : figure(title, lineChart(lines, round, axis));
}

function figure(title: string, svg: string): string {
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><div role="img" aria-label="${escapeHtml(title)}">${svg}</div></figure>`;
}

function recallMap({ methods, classes }: Scenario, figures: ScenarioFigures): string {
  const known = figures.methods.filter(({ recall }) => recall.some((value) => value !== null));
  if (methods.length === 0 || known.length === 0) return '';
  const map = heatMap({
    rows: known.map(({ label }) => label),
    columns: classes,
    cells: known.map(({ recall }) => recall.map((value) => value?.mean ?? null)),
  });
  const numbers = table(
    ['Class', ...known.map(({ label }) => label)],
    classes.map((name, index) => [
      name,
      ...known.map(({ recall }) => (recall[index] == null ? '–' : percent(recall[index].mean))),
    ]),
    'Recall by class',
  );
  return `${figure('Recall by class at the end, in percent; empty where there were too few images', map)}
<details><summary>Recall by class as a table</summary>${numbers}</details>`;
}

function failures({ failed }: Scenario): string {
  if (failed.length === 0) return '';
  return `<h3>Runs that failed</h3>${table(
    ['Method', 'Seed', 'Rounds done', 'Error'],
    failed.map(({ label, seed, rounds, error }) => [
      label,
      String(seed),
      String(rounds.length),
      `${error.code}: ${error.message}`,
    ]),
    'Runs that failed',
  )}`;
}

function repeatSection(runs: readonly RunLine[]): string {
  const distinct = (read: (run: RunLine) => string) => [...new Set(runs.map(read))].join('; ');
  const facts: [string, string][] = [
    [
      'Anneal',
      distinct(
        ({ versions }) =>
          `${versions.anneal}${versions.commit === null ? '' : ` (${versions.commit.slice(0, 12)})`}`,
      ),
    ],
    ['Node, ONNX Runtime', distinct(({ versions }) => `${versions.node}, ${versions.onnxruntime}`)],
    [
      'Machine',
      distinct(
        ({ machine }) => `${machine.processor}, ${plural(machine.cores, 'core')}, ${machine.platform}`,
      ),
    ],
    ['Base model', distinct(({ config }) => `${config.baseId} ${config.baseSha256.slice(0, 12)}`)],
    ['Data', distinct(({ dataSha256 }) => dataSha256.slice(0, 12))],
    ['Seeds', distinct(({ seed }) => String(seed))],
  ];
  const list = table(
    ['Method', 'Data', 'Seed', 'State', 'Run', 'Result'],
    runs.map((run) => [
      run.label,
      run.dataSha256.slice(0, 12),
      String(run.seed),
      run.status,
      run.id.slice(0, 12),
      run.status === 'finished' ? run.final.stateSha256.slice(0, 12) : '–',
    ]),
    'All runs',
  );
  return `<section aria-labelledby="repeat"><h2 id="repeat">To reproduce it</h2>
<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${escapeHtml(value)}</dd>`).join('')}</dl>
<details><summary>${runs.length === 1 ? 'The run' : `All ${runs.length} runs`}</summary>${list}</details></section>`;
}
