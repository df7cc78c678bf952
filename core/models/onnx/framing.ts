/** How the network takes its image, from the file's input and the person's settings. */
import type { Graph } from '../../graph/graph.ts';
import { AppError } from '../../shared/errors.ts';
import type { Preprocessing } from '../base-model.ts';
import { OpenQuestion } from '../open-question.ts';
import type { Network } from './network.ts';
import { elementTypeName, type FileValue } from './onnx-file.ts';
import type { OnnxOptions } from './options.ts';
import { invalidFile } from './read.ts';
import { type RecognisedPixels, recognisePixels } from './recognise-pixels.ts';
import { embeddingName, type Framing } from './specialise.ts';

/** FLOAT, FLOAT16, DOUBLE and BFLOAT16: all of them become float32. */
const floatTypes = new Set([1, 10, 11, 16]);
const uint8Type = 2;

export interface FramedInput {
  readonly framing: Framing;
  readonly preprocessing: Preprocessing;
}

/**
 * @throws AppError MODEL_FILE_INVALID when the input is no square colour image, CONFIG_INVALID when a setting contradicts it or
 *   nobody says how pixels are normalised
 */
export function frameInput(network: Network, options: OnnxOptions): FramedInput {
  const { input, label } = network;
  const { dims, elementType, name } = input;
  if (!floatTypes.has(elementType) && elementType !== uint8Type) {
    throw invalidFile(label, `its input "${name}" holds ${elementTypeName(elementType)} instead of pixels`, {
      action: 'Export the network with an input of floats.',
    });
  }
  if (dims === undefined || dims.length !== 4) {
    const shape = dims === undefined ? 'no shape' : `shape [${dims.join(', ')}]`;
    throw invalidFile(label, `its input "${name}" has ${shape} instead of [batch, 3, height, width]`, {
      action: 'Export the network that takes images, with the shape of its input written in.',
    });
  }
  const channelsLast = dims[1] !== 3 && dims[3] === 3;
  const channels = channelsLast ? dims[3] : dims[1];
  if (typeof channels === 'number' && channels !== 3) {
    throw invalidFile(label, `its input "${name}" has shape [${dims.join(', ')}] without 3 colour channels`, {
      action: 'Export a network that takes colour images; one for grey images cannot be a base model.',
    });
  }
  const recognised = recognisePixels(network, channelsLast);
  const normalisation = normalisationOf(options, recognised, elementType === uint8Type, label);
  const channelOrder = options.channelOrder ?? recognised?.channelOrder ?? 'rgb';
  const { range, mean = [], deviation = [] } = recognised ?? {};
  return {
    framing: {
      inputSize: sideOf(channelsLast ? dims.slice(1, 3) : dims.slice(2), input, options, label),
      channelsLast,
      ...normalisation.values,
      channelOrder,
      pooling: options.pooling,
    },
    preprocessing: {
      source: normalisation.source,
      inside: range === undefined ? null : { range, mean, deviation },
      channelOrder,
      channelSource:
        options.channelOrder !== undefined
          ? 'given'
          : recognised?.channelOrder !== undefined
            ? 'recognised'
            : 'assumed',
    },
  };
}

/** Of pixels that are fed as they are, 0…range. */
const plain = (range: number) => ({
  mean: [0, 0, 0],
  deviation: new Array<number>(3).fill(range === 1 ? 1 : 1 / 255),
});

const usualValues =
  'ArcFace networks mostly have --mean 0.5 --std 0.5, those trained on ImageNet --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; ' +
  'a network that takes pixels of 0…255 as they are has --range 255 alone.';

/** A wrong normalisation breaks no network, it only makes it worse, without a word: so it is never guessed. */
function normalisationOf(
  { mean, deviation }: OnnxOptions,
  recognised: RecognisedPixels | undefined,
  isUint8: boolean,
  label: string,
): { values: Pick<Framing, 'mean' | 'deviation'>; source: Preprocessing['source'] } {
  if (mean !== undefined && deviation !== undefined) return { values: { mean, deviation }, source: 'given' };
  if (mean !== undefined || deviation !== undefined) {
    const [given, missing] = mean === undefined ? ['--std', '--mean'] : ['--mean', '--std'];
    throw new AppError(
      'CONFIG_INVALID',
      `The pixels of ${label} need both a mean and a standard deviation.`,
      {
        action: `Give ${missing} beside ${given}.`,
      },
    );
  }
  if (recognised?.range !== undefined) return { values: plain(recognised.range), source: 'recognised' };
  if (isUint8) return { values: plain(255), source: 'recognised' };
  if (recognised !== undefined) {
    const how = recognised.operators.join(', ');
    throw new OpenQuestion(
      { about: 'range', operators: recognised.operators },
      {
        code: 'CONFIG_INVALID',
        message: `${label} changes its pixels itself (${how}), but that does not tell which values it takes.`,
        action:
          'Give --range 255 if it takes pixels of 0…255, --range 1 for 0…1; or --mean and --std if they are normalised before.',
      },
    );
  }
  throw new OpenQuestion(
    { about: 'pixels' },
    {
      code: 'CONFIG_INVALID',
      message: `${label} does not say how its pixels are normalised.`,
      action: `Give --mean and --std from the description of the model. ${usualValues}`,
    },
  );
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
    throw new OpenQuestion(
      { about: 'imageSize' },
      {
        code: 'CONFIG_INVALID',
        message: `${label} leaves the size of its input "${name}" open.`,
        action: 'Give it with --image-size, for example --image-size 112.',
      },
    );
  }
  if (known.some((size) => size !== side)) {
    throw invalidFile(
      label,
      `its input "${name}" takes images of ${spatial.join(' × ')} instead of squares`,
      {
        action: 'Export the network with a square input, or with an open height and width.',
      },
    );
  }
  if (inputSize !== undefined && inputSize !== side) {
    throw new AppError(
      'CONFIG_INVALID',
      `${label} takes images of ${side} × ${side}, but the image size given is ${inputSize}.`,
      { action: 'Leave out --image-size.' },
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
