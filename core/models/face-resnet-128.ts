/**
 * The embedded default: a residual network of 29 convolutions that maps a 150×150 face crop to a
 * 128-number descriptor. Architecture and weights are those of dlib's face recognition model as the npm
 * package @vladmandic/face-api ships them (MIT); the graph is built here.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { originalAlignment } from '../config/alignment.ts';
import type { Graph } from '../graph/graph.ts';
import { GraphBuilder } from '../graph/graph-builder.ts';
import { AppError } from '../shared/errors.ts';
import { type FloatTensor, floatTensor, sameDims } from '../shared/tensor.ts';
import { type AdaptableLayer, type BaseModel, hashWeights } from './base-model.ts';
import { readTfjsWeights } from './tfjs-weights.ts';

export const faceResnet128Id = 'face-resnet-128';

const inputSize = 150;
const embeddingSize = 128;
/** Channel means of the images that the network was trained on; red, green, blue. */
const meanRgb = [122.782, 117.001, 104.298];
/** Descriptors have components of about 0.1; the head learns well from components of about 1. */
const headGain = 8;
/** As `measureEmbeddingLength` finds it (tested). */
const embeddingLength = 1.31;

interface Block {
  name: string;
  channelsIn: number;
  channelsOut: number;
  /** Halves the image. */
  down: boolean;
}

const blocks: readonly Block[] = [
  ...['conv32_1', 'conv32_2', 'conv32_3'].map((name) => block(name, 32)),
  block('conv64_down', 64, 32),
  ...['conv64_1', 'conv64_2', 'conv64_3'].map((name) => block(name, 64)),
  block('conv128_down', 128, 64),
  ...['conv128_1', 'conv128_2'].map((name) => block(name, 128)),
  block('conv256_down', 256, 128),
  ...['conv256_1', 'conv256_2'].map((name) => block(name, 256)),
  { name: 'conv256_down_out', channelsIn: 256, channelsOut: 256, down: true },
];

function block(name: string, channelsOut: number, channelsIn = channelsOut): Block {
  return { name, channelsIn, channelsOut, down: channelsIn !== channelsOut };
}

const layers: readonly AdaptableLayer[] = [
  convLayer('conv32_down', [32, 3, 7, 7], 0),
  ...blocks.flatMap(({ name, channelsIn, channelsOut }, index) => [
    convLayer(`${name}.conv1`, [channelsOut, channelsIn, 3, 3], index + 1),
    convLayer(`${name}.conv2`, [channelsOut, channelsOut, 3, 3], index + 1),
  ]),
  {
    module: 'fc',
    kind: 'linear',
    weight: 'fc.weight',
    weightDims: [embeddingSize, 256],
    block: blocks.length + 1,
  },
];

function convLayer(module: string, weightDims: readonly number[], blockIndex: number): AdaptableLayer {
  return { module, kind: 'conv', weight: `${module}.weight`, weightDims, block: blockIndex };
}

/** Blocks of 3×3 convolutions whose width is among the given ones. */
function modulesOfLevels(...widths: readonly number[]): string[] {
  return layers
    .map((layer) => layer.module)
    .filter((module) => widths.some((width) => module.startsWith(`conv${width}_`) && module.includes('.')));
}

const presets: Readonly<Record<string, readonly string[]>> = {
  // Without the first level: it costs half of the backward pass and sees little but edges.
  default: modulesOfLevels(64, 128, 256),
  conv: modulesOfLevels(32, 64, 128, 256),
  all: layers.map((layer) => layer.module),
  'level-32': modulesOfLevels(32),
  'level-64': modulesOfLevels(64),
  'level-128': modulesOfLevels(128),
  'level-256': modulesOfLevels(256),
  'from-128': modulesOfLevels(128, 256),
};

/**
 * Loads the weights from the installed package.
 * @throws AppError MODEL_FILE_INVALID when they are missing or do not fit the architecture
 */
export async function loadFaceResnet128(): Promise<BaseModel> {
  const source = await readTfjsWeights(manifestPath(), faceResnet128Id);
  const weights = foldWeights(source);
  return {
    id: faceResnet128Id,
    sha256: hashWeights(weights),
    inputSize,
    alignment: originalAlignment,
    embeddingSize,
    licence: 'MIT',
    weights,
    layers,
    presets,
    headGain,
    embeddingLength,
    buildGraph: (batch) => buildGraph(weights, batch),
  };
}

function manifestPath(): string {
  const require = createRequire(import.meta.url);
  let packageFile: string;
  try {
    packageFile = require.resolve('@vladmandic/face-api/package.json');
  } catch (cause) {
    throw new AppError('MODEL_FILE_INVALID', 'The package that holds the face model is not installed.', {
      action: 'Install Anneal again.',
      cause,
    });
  }
  return path.join(path.dirname(packageFile), 'model', 'face_recognition_model-weights_manifest.json');
}

/**
 * Turns the source's convolution, bias and per-channel scale into one convolution with a bias:
 * s·(W*x + b) + t = (s·W)*x + (s·b + t). Layouts become those of ONNX.
 */
function foldWeights(source: ReadonlyMap<string, FloatTensor>): Map<string, FloatTensor> {
  const weights = new Map<string, FloatTensor>();
  for (const { module, kind, weight, weightDims } of layers) {
    if (kind === 'linear') {
      const [out = 0, inner = 0] = weightDims;
      weights.set(weight, transposeMatrix(tensorOf(source, 'fc', [inner, out])));
      continue;
    }
    const [out = 0, inner = 0, height = 0, width = 0] = weightDims;
    const prefix = module.replace('.', '/');
    const filters = tensorOf(source, `${prefix}/conv/filters`, [height, width, inner, out]).data;
    const bias = tensorOf(source, `${prefix}/conv/bias`, [out]).data;
    const scale = tensorOf(source, `${prefix}/scale/weights`, [out]).data;
    const shift = tensorOf(source, `${prefix}/scale/biases`, [out]).data;
    const folded = floatTensor(weightDims);
    let target = 0;
    for (let o = 0; o < out; o++) {
      for (let i = 0; i < inner; i++) {
        for (let place = 0; place < height * width; place++) {
          folded.data[target++] = filters[(place * inner + i) * out + o]! * scale[o]!;
        }
      }
    }
    weights.set(weight, folded);
    weights.set(
      `${module}.bias`,
      floatTensor(
        [out],
        bias.map((value, o) => value * scale[o]! + shift[o]!),
      ),
    );
  }
  return weights;
}

function tensorOf(
  source: ReadonlyMap<string, FloatTensor>,
  name: string,
  dims: readonly number[],
): FloatTensor {
  const tensor = source.get(name);
  if (!tensor || !sameDims(tensor.dims, dims)) {
    throw new AppError('MODEL_FILE_INVALID', `The face model has no weights "${name}" of the right shape.`);
  }
  return tensor;
}

function transposeMatrix({ dims, data }: FloatTensor): FloatTensor {
  const [rows = 0, columns = 0] = dims;
  const turned = floatTensor([columns, rows]);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      turned.data[column * rows + row] = data[row * columns + column]!;
    }
  }
  return turned;
}

function buildGraph(weights: ReadonlyMap<string, FloatTensor>, batch: number): Graph {
  const builder = new GraphBuilder();
  const names = new Map([...weights].map(([name, tensor]) => [name, builder.constant(tensor, name)]));
  const conv = (x: string, module: string, stride: number, pad: number): string =>
    builder.conv(x, names.get(`${module}.weight`)!, {
      bias: names.get(`${module}.bias`)!,
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
    });

  const pixels = builder.input('pixels', 'float32', [batch, 3, inputSize, inputSize]);
  const mean = builder.constant(floatTensor([1, 3, 1, 1], Float32Array.from(meanRgb)));
  const normalised = builder.mul(builder.sub(pixels, mean), builder.scalar(1 / 255));
  let x = builder.relu(conv(normalised, 'conv32_down', 2, 0));
  x = builder.maxPool(x, [3, 3], { strides: [2, 2] });
  for (const { name, channelsIn, channelsOut, down } of blocks) {
    // TensorFlow's `same` at stride 1 pads by 1 all round; the halving convolutions are `valid`.
    const inner = builder.relu(conv(x, `${name}.conv1`, down ? 2 : 1, down ? 0 : 1));
    const branch = conv(inner, `${name}.conv2`, 1, 1);
    const shortcut = down ? averagedShortcut(builder, x, channelsOut - channelsIn) : x;
    x = builder.relu(builder.add(padToSize(builder, branch, shortcut), shortcut));
  }
  const features = builder.flatten(builder.globalAveragePool(x));
  builder.output(builder.gemm(features, names.get('fc.weight')!, undefined, { transB: true }), 'embedding');
  return builder.build();
}

/** Halves the image by averaging and adds channels of zeros. */
function averagedShortcut(builder: GraphBuilder, x: string, extraChannels: number): string {
  const pooled = builder.averagePool(x, [2, 2], { strides: [2, 2] });
  if (extraChannels === 0) return pooled;
  return builder.pad(pooled, [0, 0, 0, 0, 0, extraChannels, 0, 0]);
}

/** A `valid` convolution can leave one row and column less than the shortcut: zeros at the end. */
function padToSize(builder: GraphBuilder, x: string, like: string): string {
  const [, , height = 0, width = 0] = builder.dimsOf(x);
  const [, , targetHeight = 0, targetWidth = 0] = builder.dimsOf(like);
  if (height === targetHeight && width === targetWidth) return x;
  return builder.pad(x, [0, 0, 0, 0, 0, 0, targetHeight - height, targetWidth - width]);
}
