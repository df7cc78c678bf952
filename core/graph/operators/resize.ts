/**
 * Resize (nearest, linear and cubic, with antialias) of the last two axes: nearest by a whole factor repeats values, all else is a
 * product with a constant matrix per axis, so that its gradient is the transposed product.
 * Source: https://onnx.ai/onnx/operators/onnx__Resize.html
 */
import { floatTensor } from '../../shared/tensor.ts';
import { type Attributes, floatOf, integerOf, integersOf, stringOf } from '../attributes.ts';
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
  ['tf_half_pixel_for_nn', (place, { scale }) => Math.fround((place + 0.5) / scale)],
  ['asymmetric', (place, { scale }) => Math.fround(place / scale)],
  [
    'half_pixel_symmetric',
    (place, { from, to, scale }) =>
      Math.fround((from / 2) * (1 - to / (scale * from)) + halfPixel(place, scale)),
  ],
]);

const roundings = new Map<string, (coordinate: number, axis: AxisResize) => number>([
  // How ONNX Runtime rounds for Upsample and the Resize of opset 10, which are read as this operator.
  ['simple', (coordinate, { scale }) => (scale < 1 ? Math.ceil(coordinate) : Math.floor(coordinate))],
  ['round_prefer_floor', (coordinate) => Math.ceil(coordinate - 0.5)],
  ['round_prefer_ceil', (coordinate) => Math.floor(coordinate + 0.5)],
  ['floor', (coordinate) => Math.floor(coordinate)],
  ['ceil', (coordinate) => Math.ceil(coordinate)],
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
  const filter = filters.get(mode);
  if (round === undefined || (mode !== 'nearest' && filter === undefined)) {
    throw unsupported(request, `does not know the mode "${mode}" (${nearest})`);
  }
  const weights = new Float32Array(axis.to * axis.from);
  const clamp = (place: number) => Math.min(Math.max(place, 0), axis.from - 1);
  for (let place = 0; place < axis.to; place++) {
    const exact = coordinate(place, axis);
    if (mode === 'nearest') {
      weights[place * axis.from + clamp(round(exact, axis))] = 1;
      continue;
    }
    // Linear, nothing is taken from beyond the image; the others repeat its edge.
    const centre = mode === 'linear' && !isSmoothed(attributes) ? clamp(exact) : exact;
    for (const [from, weight] of tapsAt(centre, axis, filter!, attributes))
      weights[place * axis.from + clamp(from)]! += weight;
  }
  return weights;
}

/** How much a place at a distance from the centre counts, and the distance from which on it does not. */
interface Filter {
  readonly reach: number;
  weigh(distance: number, coefficient: number): number;
}

const filters = new Map<string, Filter>([
  ['linear', { reach: 1, weigh: (distance) => Math.max(0, 1 - distance) }],
  ['cubic', { reach: 2, weigh: keysCubic }],
]);

/** Source: Keys 1981. */
function keysCubic(x: number, a: number): number {
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

const isSmoothed = (attributes: Attributes) => integerOf(attributes, 'antialias', 0) !== 0;

/** Places around `centre` with their weights, whose sum is 1; with antialias the filter is as wide as the step between places. */
function tapsAt(
  centre: number,
  { from, scale }: AxisResize,
  { reach, weigh }: Filter,
  attributes: Attributes,
): [number, number][] {
  const stretch = isSmoothed(attributes) ? Math.max(1, 1 / scale) : 1;
  const coefficient = floatOf(attributes, 'cubic_coeff_a', -0.75);
  const excludes = integerOf(attributes, 'exclude_outside', 0) !== 0;
  const taps: [number, number][] = [];
  for (let place = Math.ceil(centre - reach * stretch); place <= centre + reach * stretch; place++) {
    const isOutside = place < 0 || place >= from;
    const weight = weigh(Math.abs(place - centre) / stretch, coefficient);
    if (weight !== 0 && !(excludes && isOutside)) taps.push([place, weight]);
  }
  const sum = taps.reduce((total, [, weight]) => total + weight, 0);
  return taps.map(([place, weight]) => [place, weight / sum]);
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
  const { builder } = request;
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
