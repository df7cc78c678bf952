/** The file that says what the simulation runs: YAML, checked whole before anything starts; see docs/simulation.md. */
import { readFile } from 'node:fs/promises';
import { basename, dirname, extname, resolve } from 'node:path';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { runSettingsSchema } from '../config/run-config.ts';
import { strategyNameSchema } from '../config/setting.ts';
import { importOptionsSchema } from '../models/model-formats.ts';
import { AppError } from '../shared/errors.ts';
import { experimentPolicySchema, namedPolicies } from './policies.ts';
import { type Partition, partitionSchema } from './record.ts';

/** The coordinator's settings of a run, but for what the experiment itself decides and no list of settings may. */
const settingsSchema = runSettingsSchema.omit({ baseId: true, classes: true, seed: true, strategy: true });

/**
 * As a person wrote them, without the schema's defaults: a default of the strategy's own settings would take the
 * place of a setting that all have in common.
 */
const writtenSettings = z.record(z.string(), z.unknown()).superRefine((value, context) => {
  const parsed = settingsSchema.safeParse(value);
  // The same issue with the same path, so that the line of the setting itself is named.
  for (const issue of parsed.error?.issues ?? []) context.issues.push({ ...issue, input: value } as never);
});

const shorthand = 'is not one of "iid", "dirichlet: 0.5", "shards: 2" and "column: site"';
const partitionEntry = z.unknown().transform((value, context): Partition => {
  const entry = value === 'iid' ? { kind: 'iid' } : longForm(value);
  const parsed = partitionSchema.safeParse(entry);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const message = entry === null ? shorthand : issue!.message;
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
});

function longForm(value: unknown): object | null {
  if (value === null || typeof value !== 'object') return null;
  const [[kind, setting] = [], ...others] = Object.entries(value);
  if (others.length > 0) return null;
  if (kind === 'dirichlet') return { kind, alpha: setting };
  if (kind === 'shards') return { kind, perSite: setting };
  return kind === 'column' ? { kind, column: setting } : null;
}

const strategyEntry = z.preprocess(
  (value) => (typeof value === 'string' ? { strategy: value } : value),
  z.strictObject({
    /** What the results call it; the strategy's own name when absent. */
    name: z.string().min(1).max(100).optional(),
    strategy: strategyNameSchema,
    settings: writtenSettings.default({}),
  }),
);

const count = z.int().min(1);
const most = count.max(1_000_000);

const dataSchema = z
  .strictObject({
    /** A folder of images and its labels CSV, as "anneal site import" takes them. */
    images: z.string().min(1).optional(),
    labels: z.string().min(1).optional(),
    alreadyCropped: z.boolean().default(false),
    /** Generated cartoon faces instead. */
    faces: z
      .preprocess(
        // Experiments of version 0.1 have the older word.
        (value) => renameKey(value, 'picturesPerSubject', 'imagesPerSubject'),
        z.strictObject({
          subjects: count.max(100_000).default(200),
          imagesPerSubject: count.max(100).default(3),
        }),
      )
      .optional(),
    /** Decides faces, splits that the CSV leaves open, and which images of a class are taken. */
    seed: z.int().default(0),
    /** Only so many classes, the first by name, for a quick look. */
    maxClasses: most.min(2).optional(),
    /** So many further classes, the next by name, that are not trained: their images are looked up in the sites' galleries. */
    rareClasses: most.optional(),
    /** At most so many images of each class, for a quick look. */
    maxPerClass: z.strictObject({ train: most.optional(), test: most.optional() }).default({}),
  })
  .refine((data) => (data.images === undefined) === (data.labels === undefined), {
    error: '"images" and "labels" must be given together',
  })
  .refine((data) => (data.images === undefined) !== (data.faces === undefined), {
    error: 'give either "images" and "labels", or "faces"',
  });

const baseSchema = z.preprocess(
  (value) => (typeof value === 'string' ? { id: value } : value),
  z
    .strictObject({
      ...importOptionsSchema.shape,
      /** A model to import into the simulation's own models; without it `id` names one that is there. */
      path: z.string().min(1).optional(),
    })
    .refine((base) => base.path !== undefined || base.id !== undefined, {
      error: 'give the "id" of a base model or the "path" of one to import',
    }),
);

function renameKey(value: unknown, from: string, to: string): unknown {
  if (typeof value !== 'object' || value === null || !(from in value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key === from ? to : key, inner]));
}

export const experimentSchema = z.strictObject({
  /** Default: the name of the file. */
  name: z.string().min(1).max(100).optional(),
  data: dataSchema,
  base: baseSchema.default({ id: 'face-resnet-128' }),
  sites: z.preprocess(
    (value) => (typeof value === 'number' ? [value] : value),
    z.array(count.max(1000)).min(1),
  ),
  partitions: z
    .array(partitionEntry)
    .min(1)
    .default([{ kind: 'iid' }]),
  /**
   * What stays together at one site. `subject`: all images of a subject, as in life. `image`: nothing. `auto`:
   * subjects where every class has at least as many as there are sites, else images.
   */
  keepTogether: z.preprocess(
    (value) => (value === 'picture' ? 'image' : value),
    z.enum(['auto', 'subject', 'image']).default('auto'),
  ),
  /** Rules of every simulated site: those of a hospital unless the file says otherwise. */
  policy: experimentPolicySchema.default(namedPolicies.default),
  seeds: z.array(z.int()).min(1).default([1]),
  strategies: z.array(strategyEntry).min(1),
  settings: writtenSettings.default({}),
  evaluateOn: z.enum(['test', 'validation']).default('test'),
  /** Share of the training subjects that is held out for `evaluateOn: validation`. */
  validationShare: z.number().gt(0).lt(1).default(0.2),
  /** How evaluation images lie at the sites: evenly, or in the shares of a class that the site trains on. */
  evaluationSpread: z.enum(['even', 'like-training']).default('even'),
  /** Where results go, relative to the experiment file. Default: its name without ending. */
  out: z.string().min(1).optional(),
});

/** An experiment with its paths made absolute. */
export interface Experiment extends Omit<z.infer<typeof experimentSchema>, 'name' | 'out'> {
  name: string;
  out: string;
}
export type StrategyEntry = Experiment['strategies'][number];

/**
 * @throws AppError NOT_FOUND, CONFIG_INVALID naming file, line and what was expected
 */
export async function readExperiment(file: string): Promise<Experiment> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new AppError('NOT_FOUND', `The experiment "${basename(file)}" cannot be read.`, {
      action: 'Give the path of an experiment file; docs/simulation.md has an example.',
      cause,
    });
  });
  const parsed = parseExperiment(text, basename(file));
  const folder = dirname(resolve(file));
  const stem = basename(file, extname(file));
  const absolute = (path: string | undefined) => (path === undefined ? undefined : resolve(folder, path));
  const { images, labels } = parsed.data;
  return {
    ...parsed,
    name: parsed.name ?? stem,
    out: resolve(folder, parsed.out ?? `${stem}-results`),
    data: { ...parsed.data, images: absolute(images), labels: absolute(labels) },
    base: { ...parsed.base, path: absolute(parsed.base.path) },
  };
}

/** As {@link readExperiment}, for text; paths stay as they are. `name` is what messages call the file. */
export function parseExperiment(text: string, name: string): z.infer<typeof experimentSchema> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const invalid = (offset: number | undefined, message: string) =>
    new AppError('CONFIG_INVALID', `${name}, line ${lines.linePos(offset ?? 0).line}: ${message}.`, {
      action: 'Correct that line of the experiment file.',
    });
  const [problem] = document.errors;
  if (problem !== undefined) throw invalid(problem.pos[0], problem.message.replace(/\.?\s*$/, ''));
  const parsed = experimentSchema.safeParse(document.toJS({ maxAliasCount: 100 }) ?? {});
  const [issue] = parsed.error?.issues ?? [];
  if (issue !== undefined) {
    const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
    const path = unknown === undefined ? issue.path : [...issue.path, unknown];
    const what =
      unknown === undefined
        ? `"${path.join('.')}": ${lowered(issue.message)}`
        : `"${unknown}" is not a setting here`;
    throw invalid(offsetOf(document, path), what);
  }
  const experiment = parsed.data!;
  const labels = experiment.strategies.map(labelOf);
  const twice = labels.findIndex((label, index) => labels.indexOf(label) !== index);
  if (twice >= 0) {
    const message = `two strategies are called "${labels[twice]}"; give one of them another "name"`;
    throw invalid(offsetOf(document, ['strategies', twice]), message);
  }
  return experiment;
}

/** What the results call a strategy with its settings. */
export const labelOf = ({ name, strategy }: Pick<StrategyEntry, 'name' | 'strategy'>): string =>
  name ?? strategy;

const lowered = (message: string) => message.replace(/^./, (letter) => letter.toLowerCase());

/** Where the value of a path stands, or of as much of it as is there. */
function offsetOf(
  document: ReturnType<typeof parseDocument>,
  path: readonly PropertyKey[],
): number | undefined {
  for (let length = path.length; length >= 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return undefined;
}
