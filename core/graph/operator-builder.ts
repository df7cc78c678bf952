/**
 * The operators as methods, for those who write graphs by hand. What is missing here goes by `append`: an operator
 * needs no method.
 */
import type { DataType } from '../shared/tensor.ts';
import { definedAttributes } from './attributes.ts';
import { castTypeCodes } from './graph.ts';
import { GraphWriter } from './graph-writer.ts';

export interface ConvOptions {
  /** [out] */
  bias?: string;
  strides?: readonly number[];
  /** All begins, then all ends: [top, left, bottom, right]. */
  pads?: readonly number[];
  dilations?: readonly number[];
  group?: number;
}

export interface ConvTransposeOptions extends ConvOptions {
  outputPadding?: readonly number[];
}

export interface PoolOptions {
  strides?: readonly number[];
  pads?: readonly number[];
  dilations?: readonly number[];
}

export interface GemmOptions {
  alpha?: number;
  beta?: number;
  transA?: boolean;
  transB?: boolean;
}

/** Values are named by strings; each operator method returns the name of its output. */
export abstract class OperatorBuilder extends GraphWriter {
  // Elementwise, with numpy's broadcasting.
  readonly add = (a: string, b: string): string => this.append1('Add', [a, b]);
  readonly sub = (a: string, b: string): string => this.append1('Sub', [a, b]);
  readonly mul = (a: string, b: string): string => this.append1('Mul', [a, b]);
  readonly div = (a: string, b: string): string => this.append1('Div', [a, b]);
  readonly pow = (a: string, b: string): string => this.append1('Pow', [a, b]);
  readonly equal = (a: string, b: string): string => this.append1('Equal', [a, b]);
  readonly greater = (a: string, b: string): string => this.append1('Greater', [a, b]);
  readonly less = (a: string, b: string): string => this.append1('Less', [a, b]);
  /** `condition` is bool; takes `a` where true, else `b`. */
  where(condition: string, a: string, b: string): string {
    return this.append1('Where', [condition, a, b]);
  }
  readonly abs = (x: string): string => this.append1('Abs', [x]);
  /** -1, 0 or 1; no gradient goes through it. */
  readonly sign = (x: string): string => this.append1('Sign', [x]);
  readonly reciprocal = (x: string): string => this.append1('Reciprocal', [x]);
  readonly min = (a: string, b: string): string => this.append1('Min', [a, b]);
  readonly max = (a: string, b: string): string => this.append1('Max', [a, b]);
  readonly elu = (x: string, alpha = 1): string => this.append1('Elu', [x], { alpha: { float: alpha } });
  /** log(1 + exp x) */
  readonly softplus = (x: string): string => this.append1('Softplus', [x]);
  readonly neg = (x: string): string => this.append1('Neg', [x]);
  readonly sqrt = (x: string): string => this.append1('Sqrt', [x]);
  readonly exp = (x: string): string => this.append1('Exp', [x]);
  readonly log = (x: string): string => this.append1('Log', [x]);
  readonly erf = (x: string): string => this.append1('Erf', [x]);
  readonly tanh = (x: string): string => this.append1('Tanh', [x]);
  readonly sigmoid = (x: string): string => this.append1('Sigmoid', [x]);
  readonly relu = (x: string): string => this.append1('Relu', [x]);
  /** The exact form x·Φ(x). */
  readonly gelu = (x: string): string => this.append1('Gelu', [x]);
  readonly identity = (x: string): string => this.append1('Identity', [x]);
  readonly cast = (x: string, to: DataType): string => this.append1('Cast', [x], { to: castTypeCodes[to] });

  // Linear algebra.
  /** Batched matrix product with numpy's broadcasting of the leading axes. */
  readonly matMul = (a: string, b: string): string => this.append1('MatMul', [a, b]);
  /** alpha·A·B + beta·C on matrices; C broadcasts. */
  gemm(a: string, b: string, c?: string, options: GemmOptions = {}): string {
    const { alpha, beta, transA, transB } = options;
    const attributes = { alpha: float(alpha), beta: float(beta), transA: flag(transA), transB: flag(transB) };
    return this.append1('Gemm', present(a, b, c), definedAttributes(attributes));
  }

  // Convolution and pooling; x is [batch, channels, height, width].
  /** @param weight [out, in / group, kh, kw] */
  conv(x: string, weight: string, options: ConvOptions = {}): string {
    const { bias, ...attributes } = options;
    return this.append1('Conv', present(x, weight, bias), definedAttributes(attributes));
  }
  /** @param weight [in, out / group, kh, kw] */
  convTranspose(x: string, weight: string, options: ConvTransposeOptions = {}): string {
    const { bias, outputPadding, ...rest } = options;
    const attributes = definedAttributes({ ...rest, output_padding: outputPadding });
    return this.append1('ConvTranspose', present(x, weight, bias), attributes);
  }
  maxPool(x: string, kernel: readonly number[], options: PoolOptions = {}): string {
    return this.append1('MaxPool', [x], definedAttributes({ kernel_shape: kernel, ...options }));
  }
  /** @param options `countIncludePad`: whether padding counts in the divisor (ONNX default: no) */
  averagePool(
    x: string,
    kernel: readonly number[],
    options: PoolOptions & { countIncludePad?: boolean } = {},
  ): string {
    const { countIncludePad, ...rest } = options;
    const attributes = { kernel_shape: kernel, ...rest, count_include_pad: flag(countIncludePad) };
    return this.append1('AveragePool', [x], definedAttributes(attributes));
  }
  /** [batch, channels, height, width] to [batch, channels, 1, 1]. */
  readonly globalAveragePool = (x: string): string => this.append1('GlobalAveragePool', [x]);

  // Normalisation.
  readonly softmax = (x: string, axis = -1): string => this.append1('Softmax', [x], { axis });
  readonly logSoftmax = (x: string, axis = -1): string => this.append1('LogSoftmax', [x], { axis });
  /** Over the axes from `axis` on; `scale` and `bias` have the shape of those axes. */
  layerNormalization(
    x: string,
    scale: string,
    bias?: string,
    options: { axis?: number; epsilon?: number } = {},
  ): string {
    const attributes = definedAttributes({ axis: options.axis ?? -1, epsilon: float(options.epsilon) });
    return this.append1('LayerNormalization', present(x, scale, bias), attributes);
  }
  /** Normalises each channel of each sample over its other axes. @param scale [channels] @param bias [channels] */
  instanceNormalization(x: string, scale: string, bias: string, options: { epsilon?: number } = {}): string {
    const attributes = definedAttributes({ epsilon: float(options.epsilon) });
    return this.append1('InstanceNormalization', [x, scale, bias], attributes);
  }

  // Reductions; without axes over all of them.
  reduceSum(x: string, axes?: readonly number[], keepDims = true): string {
    return this.reduce('ReduceSum', x, axes, keepDims);
  }
  reduceMean(x: string, axes?: readonly number[], keepDims = true): string {
    return this.reduce('ReduceMean', x, axes, keepDims);
  }
  reduceMax(x: string, axes?: readonly number[], keepDims = true): string {
    return this.reduce('ReduceMax', x, axes, keepDims);
  }
  /** The Euclidean norm. */
  reduceL2(x: string, axes?: readonly number[], keepDims = true): string {
    return this.reduce('ReduceL2', x, axes, keepDims);
  }

  // Shapes.
  transpose(x: string, permutation?: readonly number[]): string {
    return this.append1('Transpose', [x], definedAttributes({ perm: permutation }));
  }
  /** One size may be -1; 0 keeps the size of that axis. */
  reshape(x: string, dims: readonly number[]): string {
    return this.append1('Reshape', [x, this.integers(dims)]);
  }
  /** To a matrix: axes before `axis` and axes from it on. */
  readonly flatten = (x: string, axis = 1): string => this.append1('Flatten', [x], { axis });
  /** Per listed axis: from `starts` to before `ends` (negative counts from the end) by `steps`. */
  slice(
    x: string,
    starts: readonly number[],
    ends: readonly number[],
    axes?: readonly number[],
    steps?: readonly number[],
  ): string {
    const listed = axes ?? starts.map((_, axis) => axis);
    const inputs = [x, this.integers(starts), this.integers(ends), this.integers(listed)];
    if (steps !== undefined) inputs.push(this.integers(steps));
    return this.append1('Slice', inputs);
  }
  concat(values: readonly string[], axis: number): string {
    return this.append1('Concat', values, { axis });
  }
  /** Pieces of the given sizes along `axis`. */
  split(x: string, sizes: readonly number[], axis: number): string[] {
    return this.append('Split', [x, this.integers(sizes)], { axis }, sizes.length);
  }
  /** Constant padding. @param pads begins of all axes, then their ends; negative values crop */
  pad(x: string, pads: readonly number[], value = 0): string {
    const inputs = [x, this.integers(pads)];
    if (value !== 0) inputs.push(this.scalar(value));
    return this.append1('Pad', inputs, { mode: 'constant' });
  }
  /** @param indices int64 of any shape, which takes the place of `axis` */
  gather(x: string, indices: string, axis = 0): string {
    return this.append1('Gather', [x, indices], { axis });
  }
  squeeze(x: string, axes: readonly number[]): string {
    return this.append1('Squeeze', [x, this.integers(axes)]);
  }
  unsqueeze(x: string, axes: readonly number[]): string {
    return this.append1('Unsqueeze', [x, this.integers(axes)]);
  }
  expand(x: string, dims: readonly number[]): string {
    return this.append1('Expand', [x, this.integers(dims)]);
  }
  /** float32 rows of zeros with a one at each index; a new last axis of size `depth`. @param indices int64 */
  oneHot(indices: string, depth: number): string {
    const values = this.constant({ dtype: 'float32', dims: [2], data: Float32Array.of(0, 1) });
    return this.append1('OneHot', [indices, this.integers([depth]), values], { axis: -1 });
  }

  /** Rows of length 1; a row of zeros stays. @param x [rows, columns] */
  unitRows(x: string): string {
    const squared = this.reduceSum(this.mul(x, x), [1]);
    return this.div(x, this.sqrt(this.add(squared, this.scalar(smallestSquaredNorm))));
  }

  private reduce(op: string, x: string, axes: readonly number[] | undefined, keepDims: boolean): string {
    const inputs = axes === undefined ? [x] : [x, this.integers(axes)];
    return this.append1(op, inputs, { keepdims: keepDims ? 1 : 0 });
  }
}

const smallestSquaredNorm = 1e-12;
const float = (value: number | undefined) => (value === undefined ? undefined : { float: value });
const flag = (value: boolean | undefined) => (value === true ? 1 : undefined);
const present = (...names: readonly (string | undefined)[]) => names.filter((name) => name !== undefined);
