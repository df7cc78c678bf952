/** Types of operators that normalise along axes or per channel. */
import { integerOf } from './attributes.ts';
import { floatInput, type InferenceRequest, type InferenceRule, inputOf, mismatch } from './infer-support.ts';

const normalised: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  const axis = integerOf(request.attributes, 'axis', -1);
  if (axis < -x.dims.length || axis >= x.dims.length) throw mismatch(request, `there is no axis ${axis}`);
  return [x];
};

const layerNormalization: InferenceRule = (request) => {
  const [x] = normalised(request);
  const axis = integerOf(request.attributes, 'axis', -1);
  const tail = x!.dims.slice(axis);
  for (const index of [1, 2]) {
    const parameter = request.inputs[index];
    if (parameter !== undefined && parameter.dims.join() !== tail.join()) {
      throw mismatch(request, `scale and bias need shape [${tail.join(', ')}]`);
    }
  }
  return [x!];
};

/** @throws AppError SHAPE_MISMATCH unless the inputs from 1 on have one value per channel */
function checkChannels(request: InferenceRequest, count: number): void {
  const { dims } = inputOf(request, 0);
  for (let index = 1; index <= count; index++) {
    if (floatInput(request, index).dims.join() !== `${dims[1]}`) {
      throw mismatch(request, `input ${index} needs shape [${dims[1]}], one value per channel`);
    }
  }
}

/** The inference form: mean and variance are given, not taken from the batch. */
const batchNormalization: InferenceRule = (request) => {
  const x = floatInput(request, 0);
  if (x.dims.length < 2) throw mismatch(request, 'the input has no axis of channels');
  if (integerOf(request.attributes, 'training_mode', 0) !== 0 || request.outputCount !== 1) {
    throw mismatch(request, 'only the inference form with one output is supported');
  }
  checkChannels(request, 4);
  return [x];
};

const instanceNormalization: InferenceRule = (request) => {
  const x = floatInput(request, 0);
  if (x.dims.length < 3) throw mismatch(request, 'the input has no axes behind its channels');
  checkChannels(request, 2);
  return [x];
};

const lpNormalization: InferenceRule = (request) => {
  const p = integerOf(request.attributes, 'p', 2);
  if (p !== 1 && p !== 2) throw mismatch(request, `the norm p = ${p} is not supported`);
  return normalised(request);
};

export const normalisationTypes: Readonly<Record<string, InferenceRule>> = {
  Softmax: normalised,
  LogSoftmax: normalised,
  LpNormalization: lpNormalization,
  LayerNormalization: layerNormalization,
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
};
