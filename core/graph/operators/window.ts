/** Windows that slide over images: what convolutions and pooling share. */
import { type Attributes, integerOf, integersOf, stringOf } from '../attributes.ts';
import { mismatch, type OperatorRequest } from './operator.ts';

/** Window settings of a two-dimensional convolution or pooling, defaults filled in. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  /** [top, left, bottom, right] */
  readonly pads: readonly number[];
  readonly dilations: readonly number[];
}

export function windowOf(attributes: Attributes, kernel: readonly number[]): Window {
  const ones = kernel.map(() => 1);
  return {
    kernel,
    strides: integersOf(attributes, 'strides', ones),
    pads: integersOf(attributes, 'pads', [...kernel, ...kernel].fill(0)),
    dilations: integersOf(attributes, 'dilations', ones),
  };
}

export function checkWindow(request: OperatorRequest, rank: number): void {
  if (rank !== 4) throw mismatch(request, 'only two-dimensional windows (rank 4) are supported');
  if (
    stringOf(request.attributes, 'auto_pad', 'NOTSET') !== 'NOTSET' ||
    integerOf(request.attributes, 'ceil_mode', 0) !== 0
  ) {
    throw mismatch(request, 'auto_pad and ceil_mode are not supported');
  }
}

/** Extent of a dilated kernel along one axis. */
export function reachOf(window: Window, axis: number): number {
  return window.dilations[axis]! * (window.kernel[axis]! - 1) + 1;
}

/**
 * Pads with which a window of stride 1 slides back over its output so that every input place sees the outputs
 * it took part in; undefined when one is negative.
 */
export function turnedPads(window: Window): number[] | undefined {
  const rest = window.pads.map((pad, side) => reachOf(window, side % 2) - 1 - pad);
  return rest.every((size) => size >= 0) ? rest : undefined;
}

/** Rows and columns of the input that no window reaches. */
export function leftover(
  window: Window,
  inputSize: readonly number[],
  outputSize: readonly number[],
): number[] {
  return outputSize.map((count, axis) => {
    const covered = (count - 1) * window.strides[axis]! + reachOf(window, axis);
    return inputSize[axis]! + window.pads[axis]! + window.pads[axis + 2]! - covered;
  });
}

/** @throws AppError SHAPE_MISMATCH for settings that fit no two-dimensional window */
export function checkedWindow(request: OperatorRequest, kernel: readonly number[]): Window {
  const window = windowOf(request.attributes, kernel);
  const { strides, pads, dilations } = window;
  const declared = integersOf(request.attributes, 'kernel_shape', kernel);
  const lengthsFit = [kernel, strides, dilations, declared].every(({ length }) => length === 2);
  const positive = [...kernel, ...strides, ...dilations].every(
    (size) => Number.isSafeInteger(size) && size > 0,
  );
  if (!lengthsFit || !positive || pads.length !== 4 || declared.join() !== kernel.join()) {
    throw mismatch(request, 'its kernel, strides, pads and dilations make no two-dimensional window');
  }
  if (pads.some((size) => !Number.isSafeInteger(size) || size < 0))
    throw mismatch(request, 'a pad is negative');
  return window;
}

/** Sizes of what a window gives that slides over an image of these sizes. */
export function slide(request: OperatorRequest, spatial: readonly number[], window: Window): number[] {
  return spatial.map((size, axis) => {
    const room = size + window.pads[axis]! + window.pads[axis + spatial.length]! - reachOf(window, axis);
    if (room < 0) throw mismatch(request, 'the window is larger than the padded input');
    return Math.floor(room / window.strides[axis]!) + 1;
  });
}
