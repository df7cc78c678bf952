/** Arithmetic on values known at import. Float results are rounded to float32 after every operator, as a runtime does. */
import { elementCount } from '../../shared/tensor.ts';
import { NodeProblem } from './attributes.ts';
import { broadcastShape, checkFoldedSize, expanded, resolveAxis, stridesOf } from './fold-layout.ts';
import { fromNumbers, type HostTensor, type HostType, newHostArray, numbersOf } from './host-tensor.ts';

type Binary = (a: number, b: number, integer: boolean) => number;

function divide(a: number, b: number, integer: boolean): number {
  if (!integer) return a / b;
  if (b === 0) throw new NodeProblem('invalid', 'divides an integer by zero');
  return Math.trunc(a / b);
}

/** Sign of the divisor for integers, as numpy has it. */
function modulo(a: number, b: number, integer: boolean): number {
  if (integer && b === 0) throw new NodeProblem('invalid', 'divides an integer by zero');
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

export const binaryOperators: Readonly<Record<string, Binary>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: divide,
  Mod: modulo,
  Pow: (a, b) => a ** b,
  Min: (a, b) => Math.min(a, b),
  Max: (a, b) => Math.max(a, b),
};

export const comparisonOperators: Readonly<Record<string, (a: number, b: number) => boolean>> = {
  Equal: (a, b) => a === b,
  Greater: (a, b) => a > b,
  Less: (a, b) => a < b,
  GreaterOrEqual: (a, b) => a >= b,
  LessOrEqual: (a, b) => a <= b,
  And: (a, b) => a !== 0 && b !== 0,
  Or: (a, b) => a !== 0 || b !== 0,
  Xor: (a, b) => (a !== 0) !== (b !== 0),
};

export const unaryOperators: Readonly<Record<string, (x: number) => number>> = {
  Neg: (x) => -x,
  Abs: Math.abs,
  Sqrt: Math.sqrt,
  Exp: Math.exp,
  Log: Math.log,
  Floor: Math.floor,
  Ceil: Math.ceil,
  Reciprocal: (x) => 1 / x,
  Sin: Math.sin,
  Cos: Math.cos,
};

export function combine(a: HostTensor, b: HostTensor, dtype: HostType, apply: Binary): HostTensor {
  const dims = broadcastShape(a.dims, b.dims);
  checkFoldedSize(dims, a.data.length + b.data.length);
  const [left, right] = [expanded(a, dims), expanded(b, dims)];
  const integer = dtype !== 'float32';
  const count = elementCount(dims);
  const values = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    values[index] = apply(Number(left.data[index]!), Number(right.data[index]!), integer);
  }
  return fromNumbers(dtype, dims, values);
}

/** `apply` of every value; integers stay integers. */
export function mapped(x: HostTensor, apply: (value: number) => number): HostTensor {
  return fromNumbers(
    x.dtype,
    x.dims,
    Float64Array.from(x.data as ArrayLike<number | bigint>, (v) => apply(Number(v))),
  );
}

/** Values of `a` where the condition holds, else of `b`. */
export function chosen(condition: HostTensor, a: HostTensor, b: HostTensor): HostTensor {
  if (a.dtype !== b.dtype) throw new NodeProblem('invalid', 'chooses between values of different types');
  const dims = broadcastShape(broadcastShape(condition.dims, a.dims), b.dims);
  checkFoldedSize(dims, a.data.length + b.data.length + condition.data.length);
  const [when, left, right] = [expanded(condition, dims), expanded(a, dims), expanded(b, dims)];
  const data = newHostArray(a.dtype, elementCount(dims));
  for (let index = 0; index < data.length; index++) {
    data[index] = when.data[index] ? left.data[index]! : right.data[index]!;
  }
  return { dtype: a.dtype, dims, data };
}

type Reduction = (values: readonly number[], integer: boolean) => number;

const sum: Reduction = (values) => values.reduce((total, value) => total + value, 0);

export const reductionOperators: Readonly<Record<string, Reduction>> = {
  ReduceSum: sum,
  ReduceProd: (values) => values.reduce((total, value) => total * value, 1),
  ReduceMax: (values) => values.reduce((best, value) => Math.max(best, value), -Infinity),
  ReduceMin: (values) => values.reduce((best, value) => Math.min(best, value), Infinity),
  ReduceMean: (values, integer) => divide(sum(values, integer), values.length, integer),
  ReduceL2: (values) => Math.sqrt(values.reduce((total, value) => total + value * value, 0)),
};

export function reduced(
  x: HostTensor,
  axes: readonly number[],
  keepDims: boolean,
  apply: Reduction,
): HostTensor {
  const gone = new Set(axes.map((axis) => resolveAxis(axis, x.dims.length)));
  const kept = x.dims.map((size, axis) => (gone.has(axis) ? 1 : size));
  const strides = stridesOf(kept).map((stride, axis) => (gone.has(axis) ? 0 : stride));
  const groups: number[][] = Array.from({ length: elementCount(kept) }, () => []);
  const own = stridesOf(x.dims);
  for (const [index, value] of numbersOf(x).entries()) {
    const group = own.reduce(
      (at, stride, axis) => at + (Math.floor(index / stride) % x.dims[axis]!) * strides[axis]!,
      0,
    );
    groups[group]!.push(value);
  }
  const integer = x.dtype !== 'float32';
  const dims = keepDims ? kept : kept.filter((_, axis) => !gone.has(axis));
  return fromNumbers(
    x.dtype,
    dims,
    groups.map((values) => apply(values, integer)),
  );
}

/** x·scale with the zero point taken off; per tensor or along one axis. */
export function dequantized(
  x: HostTensor,
  scale: HostTensor,
  zeroPoint: HostTensor | undefined,
  axis: number,
): HostTensor {
  const perAxis = scale.data.length > 1;
  const at = perAxis ? resolveAxis(axis, x.dims.length) : 0;
  const fits = scale.dims.length <= 1 && (!perAxis || scale.data.length === x.dims[at]);
  if (!fits || (zeroPoint !== undefined && zeroPoint.data.length !== scale.data.length)) {
    throw new NodeProblem('unsupported', 'has one scale per tensor or per axis only');
  }
  const inner = perAxis ? elementCount(x.dims.slice(at + 1)) : 1;
  const size = perAxis ? x.dims[at]! : 1;
  const data = new Float32Array(x.data.length);
  for (let index = 0; index < data.length; index++) {
    const channel = perAxis ? Math.floor(index / inner) % size : 0;
    const zero = zeroPoint === undefined ? 0 : Number(zeroPoint.data[channel]!);
    data[index] = (Number(x.data[index]!) - zero) * Number(scale.data[channel]!);
  }
  return { dtype: 'float32', dims: x.dims, data };
}
