/** How the network takes its image, from the file's input and the person's settings. */
import type { Graph } from '../../graph/graph.ts';
import { AppError } from '../../shared/errors.ts';
import { elementTypeName, type FileValue } from './onnx-file.ts';
import type { OnnxOptions } from './options.ts';
import { invalidFile } from './read.ts';
import { embeddingName, type Framing } from './specialise.ts';

const half = [0.5, 0.5, 0.5] as const;
/** FLOAT, FLOAT16, DOUBLE and BFLOAT16: all of them become float32. */
const floatTypes = new Set([1, 10, 11, 16]);

/** @throws AppError MODEL_FILE_INVALID when the input is no square colour image, CONFIG_INVALID when a setting contradicts it */
export function frameInput(input: FileValue, options: OnnxOptions, label: string): Framing {
  const { dims, elementType, name } = input;
  if (!floatTypes.has(elementType)) {
    throw invalidFile(label, `its input "${name}" holds ${elementTypeName(elementType)} instead of floats`);
  }
  if (dims === undefined || dims.length !== 4) {
    const shape = dims === undefined ? 'no shape' : `shape [${dims.join(', ')}]`;
    throw invalidFile(label, `its input "${name}" has ${shape} instead of [batch, 3, height, width]`);
  }
  const channelsLast = dims[1] !== 3 && dims[3] === 3;
  const channels = channelsLast ? dims[3] : dims[1];
  if (typeof channels === 'number' && channels !== 3) {
    throw invalidFile(label, `its input "${name}" has shape [${dims.join(', ')}] without 3 colour channels`);
  }
  return {
    inputSize: sideOf(channelsLast ? dims.slice(1, 3) : dims.slice(2), input, options, label),
    channelsLast,
    mean: options.mean ?? half,
    deviation: options.deviation ?? half,
    channelOrder: options.channelOrder ?? 'rgb',
    pooling: options.pooling,
  };
}

function sideOf(
  spatial: readonly (number | string)[],
  { name }: FileValue,
  { inputSize }: OnnxOptions,
  label: string,
): number {
  const known = spatial.filter((size) => typeof size === 'number');
  const [side = inputSize] = known;
  if (side === undefined) {
    throw new AppError(
      'CONFIG_INVALID',
      `${label} leaves the size of its input "${name}" open; the setting "inputSize" has to give it.`,
    );
  }
  if (known.some((size) => size !== side)) {
    throw invalidFile(label, `its input "${name}" takes images of ${spatial.join(' × ')} instead of squares`);
  }
  if (inputSize !== undefined && inputSize !== side) {
    throw new AppError(
      'CONFIG_INVALID',
      `${label} takes images of ${side} × ${side}, but the setting "inputSize" says ${inputSize}.`,
    );
  }
  if (side > 4096)
    throw invalidFile(label, `its input "${name}" takes images of ${side} × ${side}, at most 4096`);
  return side;
}

/** The batch size that the file fixes, if it does. */
export function fixedBatchOf({ dims }: FileValue): number | undefined {
  const batch = dims?.[0];
  return typeof batch === 'number' ? batch : undefined;
}

/**
 * √d for an embedding of length 1, whose components are of about 1/√d: the head learns well from components of
 * about 1, which is also what a normalisation as the last operator leaves. Without either it is 1.
 */
export function defaultHeadGain(graph: Graph, embeddingSize: number): number {
  const producer = new Map(
    graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  let node = producer.get(embeddingName);
  while (node?.op === 'Identity' || node?.op === 'Flatten' || node?.op === 'Reshape') {
    node = producer.get(node.inputs[0]!);
  }
  if (node?.op === 'LpNormalization') return Math.sqrt(embeddingSize);
  if (node?.op !== 'Div') return 1;
  // Divided by its own length, which exporters guard with a Clip or Max and spread with an Expand.
  let divisor = producer.get(node.inputs[1]!);
  while (
    divisor !== undefined &&
    ['Clip', 'Expand', 'Max', 'Add', 'Sqrt', 'Reshape', 'Unsqueeze'].includes(divisor.op)
  ) {
    divisor = producer.get(divisor.inputs[0]!);
  }
  return divisor?.op === 'ReduceL2' || divisor?.op === 'ReduceSum' ? Math.sqrt(embeddingSize) : 1;
}
