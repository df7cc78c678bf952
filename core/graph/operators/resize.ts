/**
 * Resize (nearest and linear) of the last two axes: nearest by a whole factor repeats values, all else is a
 * product with a constant matrix per axis, so that its gradient is the transposed product.
 * Source: https://onnx.ai/onnx/operators/onnx__Resize.html
 */
import { floatTensor } from '../../shared/tensor.ts';
import { integerOf, integersOf, stringOf } from '../attributes.ts';
import {
  constantNumbers,
  inputName,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
  unsupported,
} from './operator.ts';
import { repeatEach } from './shared-nodes.ts';

interface AxisResize {
  readonly from: number;
  readonly to: number;
  readonly scale: number;
}

/** Where an output place lies among the input's, in float32 as runtimes compute it. */
const coordinates = new Map<string, (place: number, axis: AxisResize) => number>([
  ['half_pixel', (place, { scale }) => halfPixel(place, scale)],
  ['pytorch_half_pixel', (place, { to, scale }) => (to > 1 ? halfPixel(place, scale) : 0)],
  ['align_corners', (place, { from, to }) => (to === 1 ? 0 : Math.fround((place * (from - 1)) / (to - 1)))],
  ['asymmetric', (place, { scale }) => Math.fround(place / scale)],
  [
    'half_pixel_symmetric',
    (place, { from, to, scale }) =>
      Math.fround((from / 2) * (1 - to / (scale * from)) + halfPixel(place, scale)),
  ],
]);

const roundings = new Map<string, (coordinate: number) => number>([
  ['round_prefer_floor', (coordinate) => Math.ceil(coordinate - 0.5)],
  ['round_prefer_ceil', (coordinate) => Math.floor(coordinate + 0.5)],
  ['floor', Math.floor],
  ['ceil', Math.ceil],
]);

function halfPixel(place: number, scale: number): number {
  return Math.fround(Math.fround((place + 0.5) / scale) - 0.5);
}

/** Old and new size of every axis. @throws AppError SHAPE_MISMATCH | OPERATOR_UNSUPPORTED */
function axesOf(request: OperatorRequest): AxisResize[] {
  const dims = request.builder.dimsOf(inputName(request, 0));
  const scales = constantNumbers(request, 2);
  const sizes = constantNumbers(request, 3);
  const given = scales ?? sizes;
  const listed = integersOf(request.attributes, 'axes', [...dims.keys()]);
  if (given?.length !== listed.length) throw mismatch(request, 'it needs one size per axis');
  if (stringOf(request.attributes, 'keep_aspect_ratio_policy', 'stretch') !== 'stretch') {
    throw unsupported(request, 'is supported with the aspect policy "stretch" only');
  }
  const result = dims.map((size): AxisResize => ({ from: size, to: size, scale: 1 }));
  for (const [index, axis] of listed.entries()) {
    const resolved = axis < 0 ? axis + dims.length : axis;
    const from = dims[resolved];
    if (from === undefined) throw mismatch(request, `there is no axis ${axis}`);
    const to = scales === undefined ? given[index]! : Math.floor(Math.fround(from * given[index]!));
    if (!Number.isInteger(to) || to < 1) throw mismatch(request, `axis ${axis} would have ${to} places`);
    result[resolved] = { from, to, scale: scales === undefined ? Math.fround(to / from) : given[index]! };
  }
  const fixed = result.slice(0, -2).every(({ from, to }) => from === to);
  if (!fixed) throw unsupported(request, 'is supported for the last two axes only');
  return result;
}

/** Weights [to, from] that give each output place from the input's places. */
function weightsOf(request: OperatorRequest, axis: AxisResize): Float32Array {
  const { attributes } = request;
  const transformation = stringOf(attributes, 'coordinate_transformation_mode', 'half_pixel');
  const nearest = stringOf(attributes, 'nearest_mode', 'round_prefer_floor');
  const mode = stringOf(attributes, 'mode', 'nearest');
  const coordinate = coordinates.get(transformation);
  const round = roundings.get(nearest);
  if (coordinate === undefined) throw unsupported(request, `does not know "${transformation}"`);
  if (round === undefined || !['nearest', 'linear'].includes(mode)) {
    throw unsupported(request, `does not know the mode "${mode}" (${nearest})`);
  }
  const weights = new Float32Array(axis.to * axis.from);
  const clamp = (place: number) => Math.min(Math.max(place, 0), axis.from - 1);
  for (let place = 0; place < axis.to; place++) {
    const exact = coordinate(place, axis);
    if (mode === 'nearest') {
      weights[place * axis.from + clamp(round(exact))] = 1;
      continue;
    }
    const inside = clamp(exact);
    const low = Math.floor(inside);
    weights[place * axis.from + low]! += 1 - (inside - low);
    weights[place * axis.from + clamp(low + 1)]! += inside - low;
  }
  return weights;
}

/** The whole factor by which an axis repeats each of its values, or undefined. */
function repeatsOf({ from, to }: AxisResize, weights: Float32Array): number | undefined {
  const factor = to / from;
  if (!Number.isInteger(factor)) return undefined;
  for (let place = 0; place < to; place++) {
    if (weights[place * from + Math.floor(place / factor)] !== 1) return undefined;
  }
  return factor;
}

function resize(request: OperatorRequest): string[] {
  const { builder, attributes } = request;
  if (integerOf(attributes, 'antialias', 0) !== 0) throw unsupported(request, 'has no antialias');
  const axes = axesOf(request);
  let value = inputName(request, 0);
  if (axes.every(({ from, to }) => from === to)) return [builder.identity(value)];
  const weights = axes.map((axis) => (axis.from === axis.to ? undefined : weightsOf(request, axis)));
  const repeats = axes.map((axis, index) => (weights[index] ? repeatsOf(axis, weights[index]) : 1));
  if (repeats.every((count) => count !== undefined)) return [repeatEach(builder, value, repeats)];
  for (const [index, { from, to }] of axes.entries()) {
    const matrix = weights[index];
    if (matrix === undefined) continue;
    if (index === axes.length - 1) {
      const columns = builder.constant(floatTensor([from, to], transposed(matrix, to, from)));
      value = builder.matMul(value, columns);
    } else {
      value = builder.matMul(builder.constant(floatTensor([to, from], matrix)), value);
    }
  }
  return [value];
}

function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = matrix[row * columns + column]!;
  }
  return result;
}

export const resizeOperators: OperatorTable = { Resize: { trainable: 'input', compose: resize } };
