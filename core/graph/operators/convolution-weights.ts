/** Gradients of convolutions with respect to their weights. */
import type { OperatorBuilder } from '../operator-builder.ts';
import { turnedPads, type Window } from './window.ts';

/** A window with the number of groups that its channels fall into. */
export interface GroupedWindow extends Window {
  readonly group: number;
}

/** Up to this many places per image one product over the whole batch beats one per image (measured). */
const smallArea = 300;

/** Cuts out of `padded` what each kernel position sees, one value per position. */
function cutPositions(
  builder: OperatorBuilder,
  padded: string,
  starts: readonly (readonly [number, number])[],
  size: readonly [number, number],
  strides: readonly number[],
): string[] {
  return starts.map(([row, column]) => {
    const ends = [row + (size[0] - 1) * strides[0]! + 1, column + (size[1] - 1) * strides[1]! + 1];
    return builder.slice(padded, [row, column], ends, [2, 3], strides);
  });
}

const joined = (builder: OperatorBuilder, cuts: readonly string[], axis: number) =>
  cuts.length === 1 ? cuts[0]! : builder.concat(cuts, axis);

/**
 * d loss / d weight [out, in, kh, kw] of a convolution from its input and the gradient of its output: for
 * every kernel position a product of the two, one shifted against the other. The side with fewer channels
 * is the one shifted and copied: for LoRA's factor A that is the gradient, with r channels only.
 *
 * Cuts are joined behind their channel, so that where the input is shifted the product lies as the weights do: ONNX
 * Runtime takes longer to turn [kh, kw, in, out] round than to compute it.
 */
function denseGradient(builder: OperatorBuilder, x: string, gradient: string, window: Window): string {
  const [batch, channels, ...inputSize] = builder.dimsOf(x) as [number, number, number, number];
  const [, out, ...outputSize] = builder.dimsOf(gradient) as [number, number, number, number];
  const [rows, columns] = window.kernel as [number, number];
  const positions = rows * columns;
  const rest = turnedPads(window);
  const shiftGradient = out < channels && rest !== undefined && window.strides.every((s) => s === 1);
  const [moving, still] = shiftGradient ? [gradient, x] : [x, gradient];
  const size = shiftGradient ? inputSize : outputSize;
  const area = size[0] * size[1];
  const wholeBatch = area <= smallArea;
  const arranged = (value: string) => (wholeBatch ? builder.transpose(value, [1, 0, 2, 3]) : value);
  const starts = Array.from({ length: positions }, (_, position): [number, number] => {
    const [row, column] = [Math.floor(position / columns), position % columns];
    const [i, j] = shiftGradient ? [rows - 1 - row, columns - 1 - column] : [row, column];
    return [i * window.dilations[0]!, j * window.dilations[1]!];
  });
  const padded = padImage(builder, arranged(moving), shiftGradient ? rest : window.pads);
  const cuts = cutPositions(builder, padded, starts, size, window.strides);
  const total = wholeBatch
    ? productOverBatch(builder, arranged(still), joined(builder, cuts, 1), batch * area)
    : turnedSumOfProducts(builder, joinedBehindChannels(builder, cuts, [batch, area]), still, [batch, area]);
  if (!shiftGradient) return builder.reshape(total, [out, channels, rows, columns]);
  const separate = builder.reshape(total, [channels, out, positions]);
  return builder.reshape(builder.transpose(separate, [1, 0, 2]), [out, channels, rows, columns]);
}

/** Cuts [batch, channels, …] to [batch, channels · cuts, area]. */
function joinedBehindChannels(
  builder: OperatorBuilder,
  cuts: readonly string[],
  [batch, area]: [number, number],
): string {
  const separate = cuts.map((cut) => builder.reshape(cut, [batch, -1, 1, area]));
  return builder.reshape(joined(builder, separate, 2), [batch, -1, area]);
}

/** Zeros around an image; nothing is appended when there are none. @param pads [top, left, bottom, right] */
function padImage(builder: OperatorBuilder, x: string, pads: readonly number[]): string {
  const [top, left, bottom, right] = pads as [number, number, number, number];
  return pads.some((size) => size > 0) ? builder.pad(x, [0, 0, top, left, 0, 0, bottom, right]) : x;
}

/** [a, batch, …] and [b, batch, …] to their product [a, b] over all else. */
function productOverBatch(builder: OperatorBuilder, a: string, b: string, inner: number): string {
  const matrix = (value: string) => builder.reshape(value, [-1, inner]);
  return builder.gemm(matrix(a), matrix(b), undefined, { transB: true });
}

/**
 * [batch, a, …] and [batch, b, …] to the sum over the batch of their products [b, a]. Multiplied the other way round,
 * since a product takes longer when its second factor is the larger one.
 */
function turnedSumOfProducts(
  builder: OperatorBuilder,
  a: string,
  b: string,
  [batch, area]: [number, number],
): string {
  const matrices = (value: string) => builder.reshape(value, [batch, -1, area]);
  const products = builder.matMul(matrices(a), builder.transpose(matrices(b), [0, 2, 1]));
  return builder.transpose(builder.reduceSum(products, [0], false), [1, 0]);
}

/**
 * d loss / d weight [out, in / group, kh, kw] of a convolution from its input [batch, in, h, w] and the
 * gradient [batch, out, oh, ow] of its output.
 */
export function weightGradient(
  builder: OperatorBuilder,
  x: string,
  gradient: string,
  window: GroupedWindow,
): string {
  if (window.group === 1) return denseGradient(builder, x, gradient, window);
  return builder.dimsOf(x)[1] === window.group
    ? depthwiseGradient(builder, x, gradient, window)
    : groupedGradient(builder, x, gradient, window);
}

/**
 * One input channel per group: each image's channel is convolved with its own gradient as the kernel, strides
 * and dilations exchanged, which copies nothing for the kernel positions.
 */
function depthwiseGradient(
  builder: OperatorBuilder,
  x: string,
  gradient: string,
  window: GroupedWindow,
): string {
  const [batch, channels, ...inputSize] = builder.dimsOf(x) as [number, number, number, number];
  const [, out, ...outputSize] = builder.dimsOf(gradient) as [number, number, number, number];
  const { pads, strides, dilations, kernel } = window;
  let places = builder.conv(
    builder.reshape(x, [1, batch * channels, ...inputSize]),
    builder.reshape(gradient, [batch * out, 1, ...outputSize]),
    { pads, strides: dilations, dilations: strides, group: batch * channels },
  );
  const found = builder.dimsOf(places).slice(2);
  // Rows and columns that the stride left over would count as further kernel positions.
  if (found.join() !== kernel.join()) places = builder.slice(places, [0, 0], kernel, [2, 3]);
  return builder.reduceSum(builder.reshape(places, [batch, out, 1, ...kernel]), [0], false);
}

/** Per group the products of all shifted inputs with the gradient, summed over the batch. */
function groupedGradient(
  builder: OperatorBuilder,
  x: string,
  gradient: string,
  window: GroupedWindow,
): string {
  const { group } = window;
  const [batch, channels] = builder.dimsOf(x) as [number, number, number, number];
  const [, out, ...outputSize] = builder.dimsOf(gradient) as [number, number, number, number];
  const [rows, columns] = window.kernel as [number, number];
  const area = outputSize[0]! * outputSize[1]!;
  const padded = padImage(builder, x, window.pads);
  const starts = Array.from({ length: rows * columns }, (_, position): [number, number] => [
    Math.floor(position / columns) * window.dilations[0]!,
    (position % columns) * window.dilations[1]!,
  ]);
  const size = outputSize as [number, number];
  const cuts = cutPositions(builder, padded, starts, size, window.strides).map((cut) =>
    builder.reshape(cut, [batch, group, channels / group, area]),
  );
  const seen = joined(builder, cuts, 2);
  const taught = builder.reshape(gradient, [batch, group, out / group, area]);
  const products = builder.matMul(taught, builder.transpose(seen, [0, 1, 3, 2]));
  const total = builder.reduceSum(products, [0], false);
  const separate = builder.reshape(total, [out, rows * columns, channels / group]);
  return builder.reshape(builder.transpose(separate, [0, 2, 1]), [out, channels / group, rows, columns]);
}
