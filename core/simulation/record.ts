/**
 * A finished run of the simulation as one line of `runs.jsonl`: what is needed to repeat it, and what it measured. Everything
 * but `startedAt`, `machine`, `versions` and the fields that end in `Ms` is the same when the run is repeated.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { z } from 'zod';
import { runConfigSchema } from '../config/run-config.ts';
import { sitePolicySchema } from '../config/site-policy.ts';
import { type Floors, floorsOf } from '../evaluation/floors.ts';
import { galleryMetricsSchema } from '../evaluation/merge-galleries.ts';
import { evaluationMetricsSchema } from '../evaluation/metrics.ts';
import { AppError, errorReportSchema } from '../shared/errors.ts';
import { sha256Schema as hash } from '../shared/sha256-schema.ts';
import { stageSchema } from '../strategy/strategy.ts';

const count = z.int().nonnegative();
const share = z.number().min(0).max(1);

/** How training images are spread over the sites. */
export const partitionSchema = z.discriminatedUnion('kind', [
  /** Every site has all classes in equal shares, as far as numbers go. */
  z.object({ kind: z.literal('iid') }),
  /** The shares of each class follow a Dirichlet draw (Hsu et al. 2019, arXiv 1909.06335). */
  z.object({ kind: z.literal('dirichlet'), alpha: z.number().positive() }),
  /** Sorted by class and dealt in so many shards a site (McMahan et al. 2017, arXiv 1602.05629). */
  z.object({ kind: z.literal('shards'), perSite: z.int().min(1).max(10_000) }),
  /** By a column of the labels CSV, one site for each value. */
  z.object({ kind: z.literal('column'), column: z.string().min(1).max(128) }),
]);
export type Partition = z.infer<typeof partitionSchema>;

/** Metrics of one global state over the evaluation images of all sites, computed from counts (docs/evaluation.md). */
export const metricsSchema = evaluationMetricsSchema.partial({ macroAucWithin: true, coverage: true });

const roundRecordSchema = z.object({
  /** 0-based. */
  round: count,
  stage: stageSchema,
  /** As planned; layers may differ from it. */
  rank: count,
  /** Sum of the ranks of all layers in the round's result; null when it has no layers. */
  rankSum: count.nullable(),
  /** By module. */
  layerRanks: z.record(z.string(), count).nullable(),
  trainableParameters: count,
  /** Of all sites together, as sent and counted by the coordinator. */
  bytesUp: count,
  bytesDown: count,
  parametersUp: count,
  parametersDown: count,
  meanLoss: z.number().nullable(),
  /** Of the state that the round ended with. */
  accuracy: share.nullable(),
  metrics: metricsSchema.nullable(),
  energyKept: z.number().nullable(),
  driftSpread: z.number().nullable(),
  driftShare: z.number().nullable(),
  /** ε spent up to and with this round; null without privacy. */
  epsilon: z.number().nullable(),
  /** Sites whose update was taken. */
  sites: count,
  /** Sites whose update counted less or not at all, by a robust rule. */
  exclusions: z.array(z.object({ siteId: z.string(), reason: z.string() })),
  wallMs: z.number().nonnegative(),
});
export type RoundRecord = z.infer<typeof roundRecordSchema>;

/** Images of a site by class. */
const siteRecordSchema = z.object({
  siteId: z.string(),
  train: z.record(z.string(), count),
  evaluation: z.record(z.string(), count),
});
export type SiteRecord = z.infer<typeof siteRecordSchema>;

const totalsSchema = z.object({
  bytesUp: count,
  bytesDown: count,
  bytesSent: count,
  parametersUp: count,
  parametersDown: count,
  parametersSent: count,
  /** The same count for `fedavg-full` and for the fixed rank r_max over as many rounds and sites, from shapes. */
  fedavgFullParameters: count,
  fixedRankParameters: count,
  wallMs: z.number().nonnegative(),
  /** Of `wallMs`, summed over the sites: their jobs in trainer processes, without waiting for one. */
  computeMs: z.number().nonnegative(),
});

const commonShape = {
  formatVersion: z.literal(1),
  /** SHA-256 of all that decides the result. */
  id: hash,
  experiment: z.string(),
  /** The name that the experiment gives the strategy with its settings. */
  label: z.string(),
  seed: z.int(),
  sites: z.int().min(1),
  partition: partitionSchema,
  /** Which images were evaluated. */
  evaluateOn: z.enum(['test', 'validation']),
  /** Complete, with the base model's identity and the classes. */
  config: runConfigSchema,
  /** Of every site. Lines of before there were policies have none. */
  policy: sitePolicySchema.exactOptional(),
  dataSha256: hash,
  siteData: z.array(siteRecordSchema),
  versions: z.object({
    anneal: z.string(),
    node: z.string(),
    onnxruntime: z.string(),
    commit: z.string().nullable(),
  }),
  machine: z.object({
    platform: z.string(),
    processor: z.string(),
    cores: count,
    memoryBytes: count,
    workers: count,
    threadsPerWorker: count,
  }),
  startedAt: z.iso.datetime(),
};

const finishedRunSchema = z.object({
  ...commonShape,
  status: z.literal('finished'),
  rounds: z.array(roundRecordSchema).min(1),
  final: z.object({
    accuracy: share.nullable(),
    metrics: metricsSchema.nullable(),
    /** The highest accuracy of any round, and that round. */
    bestAccuracy: share.nullable(),
    bestRound: count.nullable(),
    /** Of the last global state; says whether a repetition came to the same model. */
    stateSha256: hash,
  }),
  /** Of the sites' galleries before training. Absent where the run asked for none, and in lines of older versions. */
  untrained: galleryMetricsSchema.exactOptional(),
  totals: totalsSchema,
});
export type FinishedRun = z.infer<typeof finishedRunSchema>;

/** What the run's network did before training, beside the end. */
export const floorsOfRun = ({ config, untrained, rounds }: FinishedRun): Floors =>
  floorsOf({
    config,
    untrained: untrained ?? null,
    accuracies: rounds.map(({ accuracy }) => accuracy),
    isOver: true,
  });

const failedRunSchema = z.object({
  ...commonShape,
  status: z.literal('failed'),
  error: errorReportSchema,
  /** Rounds that were closed before. */
  rounds: z.array(roundRecordSchema),
});
export type FailedRun = z.infer<typeof failedRunSchema>;

export const runLineSchema = z.discriminatedUnion('status', [finishedRunSchema, failedRunSchema]);
export type RunLine = z.infer<typeof runLineSchema>;

/**
 * Reads a `runs.jsonl`. Of several lines of one run the last counts: a run that failed and was run again. A last line
 * without its line end was cut off when the disk or the power failed, and is left out.
 * @returns in the order of the file
 * @throws AppError NOT_FOUND when there is no such file, CONFIG_INVALID naming file and line
 */
export async function readRunLines(file: string): Promise<RunLine[]> {
  const name = basename(file);
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new AppError('NOT_FOUND', `The results "${name}" cannot be read.`, {
      action: 'Give the runs.jsonl that "anneal simulate" wrote, or the folder that holds it.',
      cause,
    });
  });
  const lines = text.split('\n').slice(0, -1);
  const runs = new Map<string, RunLine>();
  for (const [index, line] of lines.entries()) {
    const run = parseLine(line, `${name}, line ${index + 1}`);
    runs.delete(run.id);
    runs.set(run.id, run);
  }
  return [...runs.values()];
}

function parseLine(line: string, where: string): RunLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new AppError('CONFIG_INVALID', `${where}: this is not a line of JSON.`, {
      action: 'Give the runs.jsonl that "anneal simulate" wrote.',
      cause,
    });
  }
  const parsed = runLineSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new AppError('CONFIG_INVALID', `${where}: "${issue.path.join('.')}" is invalid: ${issue.message}.`, {
    action: 'Run the experiment again with this version of Anneal.',
    cause: parsed.error,
  });
}
