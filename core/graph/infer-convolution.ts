/** Types of convolutions, pooling and matrix products. */
import { integerOf, integersOf, stringOf } from './attributes.ts';
import {
  broadcastDims,
  type InferenceRequest,
  type InferenceRule,
  inputOf,
  mismatch,
} from './infer-support.ts';

/** Window settings of a two-dimensional convolution or pooling, defaults filled in. */
export interface Window {
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  /** [top, left, bottom, right] */
  readonly pads: readonly number[];
  readonly dilations: readonly number[];
}

export function windowOf(attributes: InferenceRequest['attributes'], kernel: readonly number[]): Window {
  const ones = kernel.map(() => 1);
  return {
    kernel,
    strides: integersOf(attributes, 'strides', ones),
    pads: integersOf(attributes, 'pads', [...kernel, ...kernel].fill(0)),
    dilations: integersOf(attributes, 'dilations', ones),
  };
}

function checkWindow(request: InferenceRequest, rank: number): void {
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

/** @throws AppError SHAPE_MISMATCH for settings that fit no two-dimensional window */
function checkedWindow(request: InferenceRequest, kernel: readonly number[]): Window {
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

function groupOf(request: InferenceRequest): number {
  const group = integerOf(request.attributes, 'group', 1);
  if (!Number.isSafeInteger(group) || group < 1) throw mismatch(request, `it cannot have ${group} groups`);
  return group;
}

function slide(request: InferenceRequest, spatial: readonly number[], window: Window): number[] {
  return spatial.map((size, axis) => {
    const room = size + window.pads[axis]! + window.pads[axis + spatial.length]! - reachOf(window, axis);
    if (room < 0) throw mismatch(request, 'the window is larger than the padded input');
    return Math.floor(room / window.strides[axis]!) + 1;
  });
}

const conv: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  const w = inputOf(request, 1);
  checkWindow(request, x.dims.length);
  const group = groupOf(request);
  if (w.dims.length !== 4 || x.dims[1] !== w.dims[1]! * group || w.dims[0]! % group !== 0) {
    throw mismatch(request, 'the channels do not fit');
  }
  if (request.inputs[2] !== undefined && inputOf(request, 2).dims.join() !== `${w.dims[0]}`) {
    throw mismatch(request, 'the bias needs one value per output channel');
  }
  const spatial = slide(request, x.dims.slice(2), checkedWindow(request, w.dims.slice(2)));
  return [{ dtype: x.dtype, dims: [x.dims[0]!, w.dims[0]!, ...spatial] }];
};

const convTranspose: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  const w = inputOf(request, 1);
  checkWindow(request, x.dims.length);
  const group = groupOf(request);
  if (w.dims.length !== 4 || x.dims[1] !== w.dims[0] || x.dims[1]! % group !== 0) {
    throw mismatch(request, 'the channels do not fit');
  }
  if (request.inputs[2] !== undefined && inputOf(request, 2).dims.join() !== `${w.dims[1]! * group}`) {
    throw mismatch(request, 'the bias needs one value per output channel');
  }
  const window = checkedWindow(request, w.dims.slice(2));
  const extra = integersOf(request.attributes, 'output_padding', [0, 0]);
  if (extra.some((size, axis) => size < 0 || size >= window.strides[axis]!) || extra.length !== 2) {
    throw mismatch(request, 'output_padding needs to be less than the stride');
  }
  if (request.attributes['output_shape'] !== undefined) {
    throw mismatch(request, 'output_shape is not supported; its pads need to be given');
  }
  const spatial = x.dims.slice(2).map((size, axis) => {
    const full = window.strides[axis]! * (size - 1) + reachOf(window, axis) + extra[axis]!;
    return full - window.pads[axis]! - window.pads[axis + 2]!;
  });
  if (spatial.some((size) => size <= 0)) throw mismatch(request, 'the output would be empty');
  return [{ dtype: x.dtype, dims: [x.dims[0]!, w.dims[1]! * group, ...spatial] }];
};

const pool: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  checkWindow(request, x.dims.length);
  if (request.outputCount !== 1) throw mismatch(request, 'only the pooled values are supported as output');
  const window = checkedWindow(request, integersOf(request.attributes, 'kernel_shape', []));
  return [{ dtype: x.dtype, dims: [...x.dims.slice(0, 2), ...slide(request, x.dims.slice(2), window)] }];
};

const globalPool: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  if (x.dims.length < 3) throw mismatch(request, 'there are no axes to pool');
  return [{ dtype: x.dtype, dims: [...x.dims.slice(0, 2), ...x.dims.slice(2).map(() => 1)] }];
};

const matMul: InferenceRule = (request) => {
  const a = inputOf(request, 0);
  const b = inputOf(request, 1);
  if (a.dims.length < 2 || b.dims.length < 2 || a.dims.at(-1) !== b.dims.at(-2)) {
    throw mismatch(request, 'the inner sizes differ');
  }
  const leading = broadcastDims(a.dims.slice(0, -2), b.dims.slice(0, -2));
  if (leading === undefined) throw mismatch(request, 'the leading axes do not broadcast');
  return [{ dtype: a.dtype, dims: [...leading, a.dims.at(-2)!, b.dims.at(-1)!] }];
};

const gemm: InferenceRule = (request) => {
  const a = inputOf(request, 0);
  const b = inputOf(request, 1);
  if (a.dims.length !== 2 || b.dims.length !== 2) throw mismatch(request, 'it takes matrices');
  const [rows, inner] = integerOf(request.attributes, 'transA', 0) ? [a.dims[1]!, a.dims[0]!] : a.dims;
  const [innerB, columns] = integerOf(request.attributes, 'transB', 0) ? [b.dims[1]!, b.dims[0]!] : b.dims;
  if (inner !== innerB) throw mismatch(request, 'the inner sizes differ');
  const dims = [rows!, columns!];
  const c = request.inputs[2];
  if (c !== undefined && broadcastDims(c.dims, dims)?.join() !== dims.join()) {
    throw mismatch(request, 'the summand does not broadcast to the product');
  }
  return [{ dtype: a.dtype, dims }];
};

export const convolutionTypes: Readonly<Record<string, InferenceRule>> = {
  Conv: conv,
  ConvTranspose: convTranspose,
  MaxPool: pool,
  AveragePool: pool,
  GlobalAveragePool: globalPool,
  MatMul: matMul,
  Gemm: gemm,
};
