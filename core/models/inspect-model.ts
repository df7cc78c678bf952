/** What a person wants to know of a base model before a run uses it. */
import type { Alignment } from '../config/alignment.ts';
import type { LeakReport } from '../config/leak-report.ts';
import { loraDims } from '../lora/inject.ts';
import { AppError, type ErrorReport } from '../shared/errors.ts';
import { pick } from '../shared/pick.ts';
import { elementCount } from '../shared/tensor.ts';
import type { AdaptableLayer, BaseModel, Normalisation, Preprocessing } from './base-model.ts';
import type { Adaptable } from './installed-models.ts';
import {
  findModelSource,
  formatOptions,
  type ImportOptions,
  type ModelFormat,
  openNewModel,
  proposeId,
  unstatedLicence,
} from './model-formats.ts';
import type { OnnxDescription } from './onnx/options.ts';
import { type ModelQuestion, OpenQuestion } from './open-question.ts';

/** Ranks for which the number of values that travel is shown. */
export const reportedRanks = [4, 8, 16, 32] as const;

export interface PresetReport {
  readonly name: string;
  readonly layers: number;
  /** Of all layers that can be adapted, 0…1. */
  readonly share: number;
  /** Values in the factors of all its layers, by rank. */
  readonly parametersByRank: Readonly<Record<number, number>>;
}

export interface LayerReport {
  readonly module: string;
  /** What the file calls it, where that is something else: PEFT's name. */
  readonly nameInFile: string;
  readonly kind: 'conv' | 'linear';
  readonly weightDims: readonly number[];
  /** A batch normalisation was folded into its weights, as far as the file tells. */
  readonly foldedNorm: boolean;
}

export interface ModelReport {
  readonly id: string;
  readonly format: 'built-in' | 'vit' | 'onnx';
  /** Null when the model cannot be opened; then `problem` says why. */
  readonly sha256: string | null;
  readonly licence: string;
  readonly inputSize: number | null;
  readonly alignment: Alignment | null;
  /** Nobody said the alignment, at the import or now. */
  readonly alignmentAssumed: boolean;
  readonly embeddingSize: number | null;
  readonly normalisation: Normalisation | null;
  /** Where that is known from, and what the file does to its pixels itself; null for folders and built-in models. */
  readonly preprocessing: Preprocessing | null;
  /** Weights of the whole network. */
  readonly parameters: number | null;
  readonly presets: readonly PresetReport[];
  /** Layers that can be adapted, in the order of the network. */
  readonly layers: readonly LayerReport[];
  readonly importedAt: string | null;
  /** What the ONNX file itself holds. */
  readonly onnx: OnnxDescription | null;
  /** How much of an image the embedding gives away; null when that has not been measured. */
  readonly leak: LeakReport | null;
  readonly problem: ErrorReport | null;
}

/**
 * Describes a model that is not imported, as an import with these options would open it.
 * @throws AppError NOT_FOUND | MODEL_FILE_INVALID | CONFIG_INVALID
 */
export async function inspectSource(path: string, options: ImportOptions): Promise<ModelReport> {
  const source = await findModelSource(path);
  const id = options.id ?? proposeId(source.name);
  const licence = options.licence ?? source.statedLicence ?? unstatedLicence;
  const settings = formatOptions(source.format, options);
  const files = source.files.map((name) => ({ name }));
  const about = { id, format: source.format, licence, importedAt: null, onnx: source.onnx, leak: null };
  try {
    const described = { id, licence, format: source.format, options: settings, files };
    const { base, alignmentAssumed } = await openNewModel(source.folder, described, options.alignment);
    return { ...about, alignmentAssumed, problem: null, ...describeModel(base) };
  } catch (thrown) {
    // What an ONNX file holds says more about why it cannot be used than the error alone.
    if (source.onnx === null || !(thrown instanceof AppError)) throw thrown;
    return { ...about, ...nothingKnown, problem: thrown.toReport() };
  }
}

export const adaptableOf = ({ layers, presets }: BaseModel): Adaptable => ({
  layers: layers.length,
  byDefault: presets['default']!.length,
});

/** What an import with these options would make, and what nobody has said yet. */
export interface ImportFinding {
  /** Proposed, or the one that was given. */
  readonly id: string;
  readonly format: ModelFormat;
  readonly licence: string | null;
  readonly questions: readonly ModelQuestion[];
  /** Null where an answer decides about all of it. */
  readonly model: FoundModel | null;
}

export interface FoundModel {
  /** Null as long as something is asked: answers are part of a model's identity. */
  readonly sha256: string | null;
  readonly inputSize: number;
  readonly alignment: Alignment;
  readonly alignmentAssumed: boolean;
  readonly embeddingSize: number;
  /** Null while it is asked for. */
  readonly normalisation: Normalisation | null;
  readonly preprocessing: Preprocessing | null;
  readonly parameters: number;
  readonly adaptable: Adaptable;
}

/** Answers with which the rest of a file can be looked at, whatever a person will say. */
function trialAnswer(question: ModelQuestion): ImportOptions {
  switch (question.about) {
    case 'pixels':
    case 'range':
      return { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5], range: 1 };
    case 'imageSize':
      return { imageSize: 112 };
    case 'output':
      return question.choices[0] === undefined ? {} : { output: question.choices[0] };
    case 'pooling':
      return question.choices[0] === undefined ? {} : { pooling: question.choices[0] };
  }
}

/** Other numbers for the pixels change nothing of what a network is made of. */
const isOfPixels = ({ about }: ModelQuestion) => about === 'pixels' || about === 'range';

/**
 * Looks at a model before its import and gathers all that has to be asked, not only the first of it.
 * @throws AppError why it cannot be imported, whatever is answered
 */
export async function inspectForImport(path: string, options: ImportOptions): Promise<ImportFinding> {
  const source = await findModelSource(path);
  const about = {
    id: options.id ?? proposeId(source.name),
    format: source.format,
    licence: options.licence ?? source.statedLicence,
  };
  const questions: ModelQuestion[] = [];
  let said = options;
  for (;;) {
    try {
      const files = source.files.map((name) => ({ name }));
      const described = { ...about, licence: about.licence ?? unstatedLicence, files };
      const settings = formatOptions(source.format, said);
      const opened = await openNewModel(source.folder, { ...described, options: settings }, said.alignment);
      const model = questions.every(isOfPixels) ? foundModel(opened, questions.length === 0) : null;
      return { ...about, questions, model };
    } catch (thrown) {
      if (thrown instanceof OpenQuestion && questions.every(({ about }) => about !== thrown.question.about)) {
        questions.push(thrown.question);
        said = { ...said, ...trialAnswer(thrown.question) };
      } else if (questions.every(isOfPixels)) throw thrown;
      else return { ...about, questions, model: null };
    }
  }
}

function foundModel(
  { base, alignmentAssumed }: { base: BaseModel; alignmentAssumed: boolean },
  isAnswered: boolean,
): FoundModel {
  const { sha256, normalisation, preprocessing, parameters } = describeModel(base);
  return {
    ...pick(base, 'inputSize', 'alignment', 'embeddingSize'),
    sha256: isAnswered ? sha256 : null,
    alignmentAssumed,
    normalisation: isAnswered ? normalisation : null,
    preprocessing: isAnswered ? preprocessing : null,
    parameters: parameters ?? 0,
    adaptable: adaptableOf(base),
  };
}

const nothingKnown = {
  sha256: null,
  inputSize: null,
  alignment: null,
  alignmentAssumed: false,
  embeddingSize: null,
  normalisation: null,
  preprocessing: null,
  parameters: null,
  presets: [],
  layers: [],
};

/** The part of a report that follows from the opened model. */
export function describeModel(
  base: BaseModel,
): Pick<
  ModelReport,
  | 'sha256'
  | 'inputSize'
  | 'alignment'
  | 'embeddingSize'
  | 'normalisation'
  | 'preprocessing'
  | 'parameters'
  | 'presets'
  | 'layers'
> {
  let parameters = 0;
  for (const { dims } of base.weights.values()) parameters += elementCount(dims);
  const byModule = new Map(base.layers.map((layer) => [layer.module, layer]));
  const presets = Object.entries(base.presets).map(([name, modules]) => ({
    name,
    layers: modules.length,
    share: base.layers.length === 0 ? 0 : modules.length / base.layers.length,
    parametersByRank: Object.fromEntries(
      reportedRanks.map((rank) => [
        rank,
        modules.reduce((sum, module) => sum + factorSize(byModule.get(module)!, rank), 0),
      ]),
    ),
  }));
  return {
    ...pick(base, 'sha256', 'inputSize', 'alignment', 'embeddingSize'),
    normalisation: base.normalisation ?? null,
    preprocessing: base.preprocessing ?? null,
    parameters,
    presets,
    layers: base.layers.map(({ module, kind, weightDims, peftModule, foldedNorm = false }) => ({
      ...{ module, kind, weightDims, foldedNorm },
      nameInFile: peftModule ?? module,
    })),
  };
}

/** Values in A and B of one layer. */
function factorSize(layer: AdaptableLayer, rank: number): number {
  const { a, b } = loraDims(layer, rank);
  return elementCount(a) + elementCount(b);
}
