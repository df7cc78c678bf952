/** The graphs that training and evaluation execute: base model, LoRA factors, head, loss and gradients. */
import { appendGradients } from '../graph/autodiff.ts';
import type { Graph } from '../graph/graph.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { foldNormalisationAffine } from '../graph/optimise/normalisation-affine.ts';
import { optimiseTrainingGraph } from '../graph/optimise/optimise.ts';
import { injectLora, inputNameOf, promoteToInputs } from '../lora/inject.ts';
import { allParts, type ModelState, mapTensors, tensorsOf } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { type ArcShape, appendHead, appendLoss, type HeadShape, headInputs } from './loss.ts';

export { trainableWeights } from '../models/trainable-weights.ts';

/** What decides the form of a graph; equal shapes give interchangeable graphs. */
export interface GraphShape {
  classes: number;
  lora: readonly { module: string; r: number; scale: number }[];
  /** Base weights that are fed instead of built in: those that train and those that a state replaces. */
  fedWeights: readonly string[];
  batch: number;
  /** A head on cosines; a softmax head when absent. */
  arc?: ArcShape | undefined;
}

export interface TrainingGraphShape extends GraphShape {
  /** Parameters (see {@link stateParameters}) that get a gradient. */
  trainables: readonly string[];
  labelSmoothing: number;
  /** Above 0 the graph takes a mask per adapted layer, see `loraMaskName`. */
  loraDropout?: number;
}

/** Prefix of the output that holds the gradient of a parameter. */
const gradientPrefix = 'gradient/';

export const gradientOutput = (parameter: string): string => `${gradientPrefix}${parameter}`;

/** The tensors of a state by the names of the graph inputs that take them; a layer of rank 0 has none. */
export function stateParameters(state: ModelState, parts = allParts): Map<string, FloatTensor> {
  const lora = new Map([...state.lora].filter(([, { r }]) => r > 0));
  const tensors = [...tensorsOf({ ...state, lora }, parts)];
  return new Map(tensors.map(([name, tensor]) => [inputNameOf(name), tensor]));
}

/** {@link stateParameters} turned back into a state of the same form. */
export function withParameters(
  state: ModelState,
  parameters: ReadonlyMap<string, FloatTensor>,
  baseNames: readonly string[],
): ModelState {
  const base = new Map(baseNames.map((name) => [name, parameters.get(name)!]));
  return mapTensors({ ...state, base }, (own, name) => parameters.get(inputNameOf(name)) ?? own);
}

/** Shape of the graphs that a state needs. */
export function graphShape(
  state: ModelState,
  options: { batch: number; extraWeights?: readonly string[]; arc?: ArcShape | undefined },
): GraphShape {
  const lora = [...state.lora.values()]
    .filter((layer) => layer.r > 0)
    .map(({ module, r, scale }) => ({ module, r, scale }));
  const fedWeights = [...new Set([...state.base.keys(), ...(options.extraWeights ?? [])])].sort();
  const { batch, arc } = options;
  return { classes: state.classes.length, lora, fedWeights, batch, ...(arc === undefined ? {} : { arc }) };
}

/**
 * Inputs: `pixels` [batch, 3, size, size], `labels` int64 [batch], `sampleWeights` [batch], `classPrior`
 * [classes] (positive, sums to 1; uniform for a plain loss) and every parameter; outputs: `loss` (a scalar: the
 * sum of the label-smoothed cross entropies times their weights), `logits` [batch, classes] and a gradient per
 * trainable under {@link gradientOutput}. For a mean the weights sum to 1 over all that belongs together: so
 * the losses and gradients of the parts of a batch add up to exactly those of the batch.
 * @throws AppError SHAPE_MISMATCH | OPERATOR_UNSUPPORTED
 */
export function buildTrainingGraph(base: BaseModel, shape: TrainingGraphShape): Graph {
  const { builder, embedding } = embeddingGraph(base, shape, {
    dropout: shape.loraDropout ?? 0,
    forTraining: true,
  });
  return finishTraining(builder, embedding, base, shape);
}

/** {@link buildTrainingGraph} on features computed before: input `features` [batch, embeddingSize]. */
export function buildHeadTrainingGraph(
  base: BaseModel,
  shape: Omit<TrainingGraphShape, 'trainables'>,
): Graph {
  const builder = new GraphBuilder();
  const features = builder.input('features', 'float32', [shape.batch, base.embeddingSize]);
  return finishTraining(builder, features, base, { ...shape, trainables: headInputs(shape.arc) });
}

/**
 * Inputs `pixels` and every parameter; output `logits` [batch, classes].
 * @param withFeatures whether `features` [batch, embeddingSize], the embeddings, are an output, too
 */
export function buildEvaluationGraph(base: BaseModel, shape: GraphShape, withFeatures = false): Graph {
  const { builder, embedding } = embeddingGraph(base, shape);
  builder.output(appendHead(builder, embedding, headShape(base, shape)).logits, 'logits');
  if (withFeatures) builder.output(embedding, 'features');
  return builder.build();
}

/** Inputs `pixels`, LoRA factors and fed weights; output `features` [batch, embeddingSize]. */
export function buildFeatureGraph(base: BaseModel, shape: GraphShape): Graph {
  const { builder, embedding } = embeddingGraph(base, shape);
  builder.output(embedding, 'features');
  return builder.build();
}

/** Folding copies the weights behind every normalisation: too much for a large model, whose products outweigh the rest. */
const largestFoldedBytes = 128 * 1024 * 1024;

function isSmall({ weights }: BaseModel): boolean {
  let bytes = 0;
  for (const { data } of weights.values()) bytes += data.byteLength;
  return bytes <= largestFoldedBytes;
}

/** The base model with fed weights as inputs and LoRA factors added; it has no outputs yet. */
function embeddingGraph(
  base: BaseModel,
  shape: GraphShape,
  { dropout = 0, forTraining = false } = {},
): { builder: GraphBuilder; embedding: string } {
  const promoted = promoteToInputs(base.buildGraph(shape.batch), shape.fedWeights);
  const injections = shape.lora.map(({ module, r, scale }) => {
    const layer = base.layers.find((candidate) => candidate.module === module);
    if (layer) return { layer, r, scale, dropout };
    throw new AppError('SHAPE_MISMATCH', `The base model ${base.id} has no layer "${module}" to adapt.`);
  });
  const injected = injectLora(promoted, injections);
  const adapted = forTraining && isSmall(base) ? foldNormalisationAffine(injected) : injected;
  const [embedding] = adapted.outputs;
  if (embedding === undefined) {
    throw new AppError('MODEL_FILE_INVALID', `The base model ${base.id} has no output.`);
  }
  return { builder: GraphBuilder.from({ ...adapted, outputs: [] }), embedding };
}

/** Appends head, loss and gradients, and declares the outputs. */
function finishTraining(
  builder: GraphBuilder,
  embedding: string,
  base: BaseModel,
  shape: TrainingGraphShape,
): Graph {
  const { trainables } = shape;
  const { loss, logits } = appendLoss(builder, embedding, { ...headShape(base, shape), ...shape });
  const gradients = appendGradients(builder, loss, trainables);
  builder.output(loss, 'loss');
  builder.output(logits, 'logits');
  for (const name of trainables) builder.output(gradients.get(name)!, gradientOutput(name));
  return optimiseTrainingGraph(builder.build());
}

function headShape({ embeddingSize, headGain }: BaseModel, { classes, arc }: GraphShape): HeadShape {
  return { classes, embeddingSize, headGain, arc };
}
