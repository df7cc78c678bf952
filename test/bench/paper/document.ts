/** docs/results.md and docs/results.json from the data sets that are finished. */
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { canonicalJson } from '../../../core/shared/hash.ts';
import { toMarkdown } from '../../../core/simulation/report/tables.ts';
import { writeFileAtomically } from '../../../core/store/atomic-file.ts';
import { type Part, writeJson } from './part.ts';
import type { DataSet, Plan } from './plan-of-runs.ts';
import type { ResultRow } from './table-rows.ts';

const absent = '–';
const percent = (share: number | null, digits = 1) =>
  share === null ? absent : `${(100 * share).toFixed(digits)}`;
const millions = (count: number) => (count / 1e6).toFixed(2);

/** Relative to the folder of documents. */
const plotsPathOf = ({ name }: Pick<DataSet, 'name'>) => `images/results-${name}.svg`;

/** What `docs/results.json` holds; {@link readPublishedPart} takes it apart again. */
export function resultsOf(plan: Plan, parts: readonly Part[]) {
  const of = <T>(read: (part: Part) => readonly T[]) => parts.flatMap(read);
  const { dataSets: _, ...settings } = plan;
  return {
    formatVersion: 1,
    command: 'npm run bench:paper',
    ...settings,
    datasets: parts.map(({ dataset, images, target, seconds, versions, machine }) => {
      const { methods, ...rest } = dataset;
      return { ...rest, methods, images, targetAccuracy: target, seconds, versions, machine };
    }),
    results: of(({ rows }) => rows),
    claims: of(({ claims }) => claims),
    search: of(({ search }) => search),
    failures: of(({ failures }) => failures),
  };
}

/**
 * What an earlier call has published about a data set, for a machine that has not made its runs. Null when nothing, or
 * with other settings.
 * @param docsFolder as {@link writeDocuments} wrote it
 */
export async function readPublishedPart(docsFolder: string, dataset: DataSet): Promise<Part | null> {
  const [text, plots] = await Promise.all(
    ['results.json', plotsPathOf(dataset)].map((path) =>
      readFile(join(docsFolder, path), 'utf8').catch(() => null),
    ),
  );
  if (text == null || plots == null) return null;
  const published = JSON.parse(text) as ReturnType<typeof resultsOf>;
  const found = published.datasets.find(({ name }) => name === dataset.name);
  if (found === undefined) return null;
  const { images, targetAccuracy, seconds, versions, machine, ...settings } = found;
  if (canonicalJson(settings) !== canonicalJson(JSON.parse(JSON.stringify(dataset)))) return null;
  const own = <T extends { dataset: string }>(all: readonly T[]) =>
    all.filter((each) => each.dataset === dataset.name);
  return {
    ...{ dataset, images, target: targetAccuracy, seconds, versions, machine, plots },
    rows: own(published.results),
    claims: own(published.claims),
    search: own(published.search),
    failures: own(published.failures),
  };
}

/** Writes all files, the plots first, so that the page never names one that is not there. */
export async function writeDocuments(
  docsFolder: string,
  plan: Plan,
  parts: readonly Part[],
  jsonFile?: string,
): Promise<void> {
  await mkdir(join(docsFolder, 'images'), { recursive: true });
  for (const part of parts) {
    await writeFileAtomically(join(docsFolder, plotsPathOf(part.dataset)), Buffer.from(part.plots));
  }
  const results = resultsOf(plan, parts);
  await writeJson(join(docsFolder, 'results.json'), results);
  if (jsonFile !== undefined) {
    await mkdir(dirname(jsonFile), { recursive: true });
    await writeJson(jsonFile, results);
  }
  await writeFileAtomically(join(docsFolder, 'results.md'), Buffer.from(renderPage(plan, parts)));
}

/** The whole page. */
export function renderPage(plan: Plan, parts: readonly Part[]): string {
  return `# Results

<!-- Written by "npm run bench:paper"; do not edit. What the figures mean: results-discussion.md. -->

Every strategy on ${plan.sites} simulated sites with the code that hospitals run, images spread by Dirichlet
${plan.alpha}; ± is half of the 95 % interval of the mean over seeds (Student's t). The
[discussion](results-discussion.md) says what the figures mean and what they do not; [results.json](results.json) holds
them with all settings. Repeat it with \`${command(plan)}\`.

${parts.map((part) => section(plan, part)).join('\n')}`;
}

const command = ({ size }: Plan) => `npm run bench:paper${size === 'full' ? ' -- --full' : ''}`;

function section(plan: Plan, part: Part): string {
  const { dataset, images, target, rows } = part;
  const { settings } = dataset;
  const seeds = Math.max(...rows.map((row) => row.seeds.length));
  return `## ${dataset.title}

${images.train} training and ${images.test} test images, ${String(settings['rounds'])} rounds, ${seeds === 1 ? 'one seed' : `${seeds} seeds`}.
Target: ${percent(target)} %, which is 95 % of the best mean accuracy.

${resultTable(part)}

Parameters and bytes are those that all sites sent and fetched, as counted. \`fedsa-lora\` gives each site a model of
its own; its accuracy is that of each site's model on the site's even share of the test images.

![Accuracy by bytes and by round, rank and drift by round](${plotsPathOf(dataset)})

### What it should show

${claimTable(part)}

The difference is that of accuracies in percentage points, paired by seed, with its 95 % interval.

### Search

${searchText(plan, part)}

${searchTable(part)}

### Settings and machine

\`\`\`json
${JSON.stringify({ ...settings, methods: Object.fromEntries(dataset.methods.map(({ name, settings: own }) => [name, own])) }, null, 1)}
\`\`\`

${machineText(part)}
${failureText(part)}`;
}

function resultTable({ rows }: Part): string {
  const head = [
    'Strategy',
    'Accuracy %',
    'Macro-F1 %',
    'Rounds to target',
    'MB to target',
    'Parameters sent, M',
    'MB sent',
    'Drift, share %',
    'Lowest energy kept %',
  ];
  return toMarkdown({
    head,
    rows: rows.map((row) => [
      row.strategy,
      accuracyText(row),
      percent(row.macroF1Mean),
      row.roundsTo95 === null ? 'never' : String(row.roundsTo95),
      row.bytesTo95 === null ? absent : millions(row.bytesTo95),
      millions(row.parametersSent),
      millions(row.bytesSent),
      percent(row.driftShareMean),
      percent(row.lowestEnergyKept),
    ]),
  });
}

function accuracyText({ accuracyMean, accuracyInterval, seeds }: ResultRow): string {
  const half = accuracyInterval[1] - accuracyMean;
  return seeds.length < 2 ? percent(accuracyMean) : `${percent(accuracyMean)} ± ${percent(half)}`;
}

function claimTable({ claims }: Part): string {
  const points = (value: number) => (100 * value).toFixed(1);
  return toMarkdown({
    head: ['Claim', 'Holds', 'Figures', 'Difference'],
    rows: claims.map(
      ({ statement, holds, evidence, accuracyDifference, accuracyDifferenceInterval: ends }) => [
        statement,
        holds ? 'yes' : '**no**',
        evidence,
        `${points(accuracyDifference)} (${points(ends[0])} to ${points(ends[1])})`,
      ],
    ),
  });
}

function searchText(plan: Plan, { dataset, images }: Part): string {
  const tried = Math.max(...Object.values(dataset.rates).map((values) => values.length));
  const rounds = String({ ...dataset.settings, ...dataset.searchSettings }['rounds']);
  const followers = dataset.methods.flatMap(({ name, follows }) =>
    follows === undefined ? [] : [`\`${name}\` takes the rate of \`${follows}\`.`],
  );
  return `${tried} values for one learning rate of every method, ${rounds} rounds each, seed ${plan.searchSeed}, on
${images.validation} validation images held out from the training images; test images had no part in it. The
score is the mean accuracy of the last two rounds. ${followers.join(' ')}`;
}

function searchTable({ search }: Part): string {
  const byMethod = Map.groupBy(search, ({ strategy }) => strategy);
  return toMarkdown({
    head: ['Strategy', 'Setting', 'Value: score %', 'Chosen'],
    rows: [...byMethod].map(([strategy, trials]) => [
      strategy,
      trials[0]!.setting,
      trials.map(({ value, score }) => `${value}: ${percent(score)}`).join(', '),
      String(trials.find(({ chosen }) => chosen)?.value ?? absent),
    ]),
  });
}

function machineText({ seconds, versions, machine }: Part): string {
  const minutes = (value: number) => (value / 60).toFixed(1);
  return `${machine.processor}, ${machine.cores} cores, ${machine.platform}; Anneal ${versions.anneal}${versions.commit === null ? '' : ` (${versions.commit.slice(0, 12)})`},
Node ${versions.node}, ONNX Runtime ${versions.onnxruntime}. ${minutes(seconds.wall)} minutes of wall clock; ${minutes(seconds.searchCompute)} minutes
of one core for the search and ${minutes(seconds.tableCompute)} for the table.
`;
}

function failureText({ failures }: Part): string {
  if (failures.length === 0) return '';
  return `\nRuns that failed:\n\n${failures.map(({ run, error }) => `- ${run}: ${error}`).join('\n')}\n`;
}
