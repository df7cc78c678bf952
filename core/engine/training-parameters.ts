/** What a job feeds and trains, and the optimiser over it. */
import type { HeadSettings, LocalTraining } from '../config/local-training.ts';
import { factorParts, type ModelState, nameOfHead } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { statisticWeights, trainableWeights } from '../models/trainable-weights.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { type ArcShape, headInputs } from './loss.ts';
import { createAdamW, createSgd, type Optimiser, type ParameterGroup } from './optimiser.ts';
import type { TrainJob } from './trainer-protocol.ts';
import { stateParameters } from './training-graph.ts';

/** Parameters of a job: all that are fed, and which of them train. */
export interface TrainingParameters {
  /** Copies, which the optimiser changes in place. */
  all: Map<string, FloatTensor>;
  trainables: string[];
  /** Base weights that are fed: in `full` and `last-k` mode those of the state and those that train. */
  baseNames: string[];
  /**
   * Base weights of the state that are built into the graph in place of the base model's own: where no base weight
   * trains they are the same for many jobs, and a runtime works faster with weights that it knows beforehand.
   */
  builtIn: ReadonlyMap<string, FloatTensor>;
  /** Base weights that are part of the result. */
  trainedWeights: string[];
}

/** @param margin of an arcface head */
export function arcOf({ head, arcScale }: HeadSettings, margin: number): ArcShape | undefined {
  if (head === 'softmax') return undefined;
  return { scale: arcScale, margin: head === 'arcface' ? margin : 0 };
}

/** Copies of what is fed; in `full` and `last-k` mode the base weights that train come from the base. */
export function collectParameters(
  job: Pick<TrainJob, 'mode' | 'lastK' | 'trains' | 'training'>,
  base: BaseModel,
  state: ModelState,
): TrainingParameters {
  const none: ModelState['base'] = new Map();
  const [builtIn, fedBase] = job.mode === 'lora' ? [state.base, none] : [none, state.base];
  const all = new Map<string, FloatTensor>();
  for (const [name, { dims, data }] of stateParameters({ ...state, base: fedBase }))
    all.set(name, floatTensor(dims, data.slice()));
  const weights = trainableWeights(base, job.mode, job.lastK);
  for (const name of weights) {
    const { dims, data } = base.weights.get(name)!;
    if (!all.has(name)) all.set(name, floatTensor(dims, data.slice()));
  }
  const wholeHead = [...state.head.keys()].map(nameOfHead);
  const statistics = weights.length === 0 ? new Set<string>() : statisticWeights(base, weights);
  const body =
    job.mode === 'lora'
      ? [...stateParameters(state, { ...factorParts(job.trains), head: false, base: false }).keys()]
      : weights.filter((name) => !statistics.has(name));
  const arc = arcOf(job.training, job.training.arcMargin);
  const head = headInputs(arc).filter((name) => wholeHead.includes(name));
  return {
    all,
    trainables: [...body, ...head],
    baseNames: [...new Set([...fedBase.keys(), ...weights])],
    builtIn,
    trainedWeights: weights,
  };
}

/** Groups by learning rate and decay; biases and the like do not decay. */
export function createJobOptimiser(
  training: LocalTraining,
  parameters: TrainingParameters,
  steps: number,
): Optimiser {
  const { learningRate, headLearningRate, baseLearningRate } = training;
  const baseWeights = new Set(parameters.trainedWeights);
  const groups = new Map<string, ParameterGroup & { parameters: Map<string, Float32Array> }>();
  for (const name of parameters.trainables) {
    const { data, dims } = parameters.all.get(name)!;
    const isHead = name.startsWith('head.') && !baseWeights.has(name);
    const rate = isHead ? headLearningRate : baseWeights.has(name) ? baseLearningRate : learningRate;
    // Vectors of the base do not decay, however they lie: ONNX has the slopes of PRelu as [channels, 1, 1].
    const axes = baseWeights.has(name) ? dims.filter((size) => size > 1) : dims;
    const isVector = axes.length < 2;
    const weightDecay = isVector ? 0 : training.weightDecay;
    const key = `${rate} ${weightDecay}`;
    const group = groups.get(key) ?? { learningRate: rate, weightDecay, parameters: new Map() };
    group.parameters.set(name, data);
    groups.set(key, group);
  }
  const options = { ...training, groups: [...groups.values()], steps };
  return training.optimiser === 'sgd' ? createSgd(options) : createAdamW(options);
}
