/** `report.json`: every figure is measured in the run or counted from what was really sent. */
import type { RoundRow, RunDetail } from '../../api/contract.ts';
import { pick } from '../../shared/pick.ts';
import type { DemoPolicy } from './demo-policy.ts';
import type { DemoOptions } from './options.ts';

const roundFacts = [
  'round',
  'stage',
  'rank',
  'trainableParameters',
  'bytesUp',
  'bytesDown',
  'meanLoss',
  'accuracy',
  'energyKept',
] as const;

export interface DemoReport {
  rounds: Pick<RoundRow, (typeof roundFacts)[number]>[];
  finalAccuracy: number | null;
  headOnlyAccuracy: number | null;
  /** What the network did before training, and a sentence when the run ends below that. */
  floors: RunDetail['floors'];
  belowFloor: string | null;
  /** Values that travelled, both ways, over all sites and rounds. */
  parametersSent: number;
  bytesSent: number;
  /** What FedAvg of the whole network would have sent in as many rounds over as many sites; computed from shapes. */
  fedavgFullParameters: number;
  /** The same for LoRA at the highest rank in every round. */
  fixedRankParameters: number;
  /** 1 − parametersSent / fedavgFullParameters. */
  parameterReduction: number;
  reductionAgainstFixedRank: number;
  wallSeconds: number;
  device: string;
  seed: number;
  schedule: string;
  sites: {
    name: string;
    train: number;
    test: number;
    byLabel: Record<string, { train: number; test: number }>;
  }[];
  classes: string[];
  base: string;
  data: 'generated cartoon faces' | 'own images';
  /** Policy of the sites: the default of hospitals, or `open` where that refused the data. */
  policy: DemoPolicy;
  globalAdapterSha256: string;
}

export interface ReportInput {
  run: RunDetail;
  headOnly: RunDetail;
  options: DemoOptions;
  policy: DemoPolicy;
  sites: DemoReport['sites'];
  device: string;
  wallSeconds: number;
  globalAdapterSha256: string;
}

export function buildReport(input: ReportInput): DemoReport {
  const { run, headOnly, options } = input;
  const { totals } = run;
  return {
    rounds: run.done.map((round) => pick(round, ...roundFacts)),
    finalAccuracy: run.done.at(-1)?.accuracy ?? null,
    headOnlyAccuracy: headOnly.done.at(-1)?.accuracy ?? null,
    ...pick(run, 'floors', 'belowFloor'),
    parametersSent: totals.parametersSent,
    bytesSent: totals.bytesSent,
    fedavgFullParameters: totals.fedavgFullParameters,
    fixedRankParameters: totals.fixedRankParameters,
    parameterReduction: 1 - totals.parametersSent / totals.fedavgFullParameters,
    reductionAgainstFixedRank: 1 - totals.parametersSent / totals.fixedRankParameters,
    wallSeconds: input.wallSeconds,
    device: input.device,
    seed: options.seed,
    schedule: options.schedule,
    sites: input.sites,
    classes: run.config.classes,
    base: run.config.baseId,
    policy: input.policy,
    data: options.images === undefined ? 'generated cartoon faces' : 'own images',
    globalAdapterSha256: input.globalAdapterSha256,
  };
}
