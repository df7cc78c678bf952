/** `anneal plan`: what a run would send, by counting; nothing is trained and no agent is needed. */
import { type Command, InvalidArgumentError } from 'commander';
import type { RunConfig } from '../../config/run-config.ts';
import { completeRunConfig } from '../../coordinator/run-settings.ts';
import type { BaseModel } from '../../models/base-model.ts';
import { defaultBaseId } from '../../models/catalogue.ts';
import { openPlanningBase } from '../../models/planning-base.ts';
import { elementCount } from '../../shared/tensor.ts';
import { plural } from '../../shared/text.ts';
import { type PlannedRound, type PlannedRun, planRun } from '../../strategy/plan.ts';
import { findLimits, type TargetAnswer } from '../../strategy/plan-target.ts';
import { noiseFor, planPrivacy } from '../../strategy/privacy/accountant.ts';
import { getStrategy } from '../../strategy/registry.ts';
import { readList, readNumber, readWholeNumber } from '../arguments.ts';
import { formatBytes, formatCount, formatTable } from '../format.ts';
import { printJson, printLine } from '../output.ts';
import { addRunOptions, flagOf, type RunOptions, readRunOptions } from '../run-options.ts';
import { openCatalogue } from '../with-agent.ts';

/** More names than any class list would have. */
const maxClasses = 100_000;

/** Names, or how many there are: only the number of labels costs anything worth planning. */
function readClasses(text: string): string[] {
  if (!/^\d+$/.test(text.trim())) return readList(text);
  const count = readWholeNumber(text.trim());
  if (count < 2 || count > maxClasses)
    throw new InvalidArgumentError(`Give names, or a number from 2 to ${maxClasses}.`);
  return Array.from({ length: count }, (_, index) => `label ${index + 1}`);
}

function readSites(text: string): number {
  const sites = readWholeNumber(text);
  if (sites < 1 || sites > 10_000) throw new InvalidArgumentError('Give a number from 1 to 10000.');
  return sites;
}

function readPercent(text: string): number {
  const percent = readNumber(text);
  if (percent <= 0 || percent >= 100) throw new InvalidArgumentError('Give a percentage between 0 and 100.');
  return percent / 100;
}

function readEpsilon(text: string): number {
  const epsilon = readNumber(text);
  if (!(epsilon > 0)) throw new InvalidArgumentError('Give a number above 0.');
  return epsilon;
}

interface Options extends RunOptions {
  base?: string;
  classes?: string[];
  sites: number;
  target?: number;
  epsilon?: number;
  data?: string;
  json: boolean;
}

export function addPlanCommand(program: Command): void {
  const command = program
    .command('plan')
    .description('count what a run would send, round by round, compared with FedAvg and fixed-rank LoRA')
    .option(
      '--base <model>',
      'id of an installed model, vit-tiny, vit-small, vit-base or vit-large, or the path of a model or of a config.json',
    );
  addRunOptions(command, ['base', 'classes'])
    .option('--classes <names>', 'labels, or their number', readClasses)
    .option('--sites <number>', 'sites', readSites, 10)
    .option('--target <percent>', 'also show which settings send this much less than FedAvg', readPercent)
    .option('--epsilon <number>', 'also show how much noise keeps a site at this ε', readEpsilon)
    .option('--data <folder>', 'data folder, for installed models')
    .option('--json', 'print JSON', false)
    .action(async (options: Options) => {
      const { base: _base, classes: _classes, ...others } = options;
      const settings = await readRunOptions(others);
      const name = options.base ?? settings.baseId ?? defaultBaseId;
      const { base, shapesOnly } = await openPlanningBase(openCatalogue(options.data), name);
      const classes = options.classes ?? settings.classes ?? readClasses('2');
      const config = completeRunConfig({ ...settings, baseId: base.id, classes }, base, options.sites);
      const planned = planRun(config, base, options.sites);
      const result = { config, base, shapesOnly, sites: options.sites, planned };
      const answer =
        options.target === undefined ? null : findLimits(config, base, options.sites, options.target);
      const noise = options.epsilon === undefined ? null : noiseFor(config, options.epsilon);
      if (options.json) {
        printJson(asJson(result, answer, noise));
        return;
      }
      printPlan(result);
      printPrivacy(config, options.sites, noise);
      if (answer !== null) printAnswer(answer, options.target!);
    });
}

interface Result {
  config: RunConfig;
  base: BaseModel;
  shapesOnly: boolean;
  sites: number;
  planned: PlannedRun;
}

function parametersOf(base: BaseModel): number {
  let count = 0;
  for (const { dims } of base.weights.values()) count += elementCount(dims);
  return count;
}

function asJson(result: Result, answer: TargetAnswer | null, noise: Noise | null) {
  const { config, base, shapesOnly, sites, planned } = result;
  const { totals, plan } = planned;
  return {
    base: { id: base.id, parameters: parametersOf(base), shapesOnly },
    sites,
    config,
    rounds: plan,
    totals,
    parameterReduction: 1 - totals.parametersSent / totals.fedavgFullParameters,
    byteReduction: 1 - totals.bytesSent / totals.fedavgFullBytes,
    parameterReductionAgainstFixedRank: 1 - totals.parametersSent / totals.fixedRankParameters,
    byteReductionAgainstFixedRank: 1 - totals.bytesSent / totals.fixedRankBytes,
    privacy: planPrivacy(config, sites),
    ...(answer === null ? {} : { target: answer }),
    ...(noise === null ? {} : { noise }),
  };
}

function printPlan({ config, base, shapesOnly, sites, planned }: Result): void {
  const { plan, totals } = planned;
  const known = shapesOnly ? ', known only by its shapes' : '';
  const who = plural(sites, 'site');
  printLine(
    `${config.strategy} on ${base.id} (${formatCount(parametersOf(base))} weights${known}), ${plural(config.rounds, 'round')}, ${who}, ${plural(config.classes.length, 'label')}.`,
  );
  printLine();
  printLine(
    formatTable(
      ['rounds', 'stage', 'trains', 'rank', 'sites', 'values up', 'up', 'values down', 'down'],
      joinEqual(plan).map(({ first, last, round }) => [
        first === last ? String(first + 1) : `${first + 1}–${last + 1}`,
        round.stage,
        round.mode,
        round.rank === 0 ? '–' : String(round.rank),
        String(round.participants),
        formatCount(round.parametersPerSite),
        formatBytes(round.bytesPerSite),
        formatCount(round.parametersDownPerSite),
        formatBytes(round.bytesDownPerSite),
      ]),
      [3, 4, 5, 6, 7, 8],
    ),
  );
  printLine('Values and bytes are per site and round; at the end, each site also fetches the last state.');
  printLine();
  const row = (name: string, parameters: number, bytes: number) => [
    name,
    formatCount(parameters),
    formatBytes(bytes),
    compare(totals.parametersSent, parameters),
    compare(totals.bytesSent, bytes),
  ];
  printLine(
    formatTable(
      ['total', 'values', 'bytes', 'this run sends', 'in bytes'],
      [
        row('this run', totals.parametersSent, totals.bytesSent),
        row(`LoRA, rank ${config.rMax} throughout`, totals.fixedRankParameters, totals.fixedRankBytes),
        row('FedAvg of the whole model', totals.fedavgFullParameters, totals.fedavgFullBytes),
      ],
      [1, 2, 3, 4],
    ),
  );
  if (config.allocation === 'spectral' && getStrategy(config.strategy).traits(config).anneals) {
    printLine(
      'With the allocation "spectral", the ranks of individual layers follow from the data; the table counts their mean.',
    );
  }
}

type Noise = ReturnType<typeof noiseFor>;

/** Six digits are more than the bound is worth. */
const short = (value: number) => String(Number(value.toPrecision(3)));

/** Rounded up: less noise would cost more. */
const enough = (value: number) => {
  const step = 10 ** (Math.floor(Math.log10(value)) - 2);
  return short(Math.ceil(value / step) * step);
};

function printPrivacy(config: RunConfig, sites: number, noise: Noise | null): void {
  const privacy = planPrivacy(config, sites);
  if (privacy !== null) {
    const { always, average, delta } = privacy;
    printLine();
    printLine(
      `Privacy: ε = ${short(always.epsilon)} at δ = ${delta} for a site that trains in all ${plural(always.rounds, 'round')}` +
        (average.rounds < always.rounds
          ? `, and ${short(average.epsilon)} for one that is drawn in ${average.rounds}, like the average site.`
          : '.'),
    );
  } else if (config.privacy !== null) {
    printLine();
    printLine('Privacy: changes are clipped, but without noise there is no ε.');
  }
  if (noise === null) return;
  printLine();
  printLine(
    `ε = ${noise.epsilon} at δ = ${noise.delta} in all ${plural(config.rounds, 'round')} needs a noiseMultiplier of ${enough(noise.noiseMultiplier)}.`,
  );
}

/** `93.62 % less`; nothing beside itself. */
function compare(own: number, other: number): string {
  if (own === other) return '–';
  const saved = 100 * (1 - own / other);
  return saved >= 0 ? `${saved.toFixed(2)} % less` : `${(-saved).toFixed(2)} % more`;
}

/** Neighbouring rounds that cost the same, in one row. */
function joinEqual(plan: readonly PlannedRound[]): { first: number; last: number; round: PlannedRound }[] {
  const rows: { first: number; last: number; round: PlannedRound }[] = [];
  const keyOf = ({ stage, mode, rank, participants, bytesPerSite, bytesDownPerSite }: PlannedRound) =>
    JSON.stringify([stage, mode, rank, participants, bytesPerSite, bytesDownPerSite]);
  for (const round of plan) {
    const row = rows.at(-1);
    if (row !== undefined && keyOf(row.round) === keyOf(round)) row.last = round.round;
    else rows.push({ first: round.round, last: round.round, round });
  }
  return rows;
}

function printAnswer({ parameterReduction, reached, limits }: TargetAnswer, target: number): void {
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
  printLine();
  printLine(
    `${percent(target)} fewer parameters than FedAvg: these settings ${reached ? 'reach' : 'do not reach'} it (${percent(parameterReduction)}).`,
  );
  if (limits.length === 0) {
    printLine('With the other settings as they are, no rank and no number of initiating rounds reaches it.');
    return;
  }
  printLine('The most expensive settings that reach it, each with all others as above:');
  printLine(
    formatTable(
      ['settings', 'fewer parameters'],
      limits.map(({ changes, parameterReduction: share }) => [
        Object.entries(changes)
          .map(([name, value]) => `--${flagOf(name)} ${String(value)}`)
          .join(' '),
        percent(share),
      ]),
      [1],
    ),
  );
}
