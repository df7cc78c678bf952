/** Computes operators whose inputs are all known at import: shape arithmetic, transposed or quantised weights. */
import { resolveSlice } from '../../graph/operators/slicing.ts';
import { elementCount } from '../../shared/tensor.ts';
import { intAttribute, intsAttribute, NodeProblem, toSize } from './attributes.ts';
import {
  binaryOperators,
  chosen,
  combine,
  comparisonOperators,
  dequantized,
  mapped,
  reduced,
  reductionOperators,
  unaryOperators,
} from './fold-arithmetic.ts';
import {
  broadcastShape,
  checkFoldedSize,
  concatenated,
  expanded,
  gathered,
  reshapeDims,
  reshaped,
  resolveAxis,
  strided,
  stridesOf,
  transposed,
} from './fold-layout.ts';
import { fromNumbers, type HostTensor, hostTensor, mapType, numbersOf } from './host-tensor.ts';
import type { FileNode } from './onnx-file.ts';
import { hostTypeOf, readTensor } from './tensors.ts';

export interface FoldRequest {
  readonly node: FileNode;
  /** Undefined where an optional input is absent. */
  readonly inputs: readonly (HostTensor | undefined)[];
  readonly opset: number;
}

type FoldRule = (request: FoldRequest) => HostTensor[];

/** A required input. @throws NodeProblem */
function input({ inputs }: FoldRequest, index: number): HostTensor {
  const tensor = inputs[index];
  if (tensor === undefined) throw new NodeProblem('invalid', `has no input ${index}`);
  return tensor;
}

/** Sizes or axes of an input. */
function sizes(request: FoldRequest, index: number): number[] {
  return integersOf(input(request, index));
}

function integersOf(tensor: HostTensor): number[] {
  return Array.from(tensor.data as ArrayLike<number | bigint>, toSize);
}

/** Axes as an attribute (older opsets) or as an input. */
function axesOf(request: FoldRequest, index = 1): number[] | undefined {
  const given = request.inputs[index];
  return given === undefined ? intsAttribute(request.node.attributes, 'axes') : integersOf(given);
}

/** The values of a tensor in an attribute; these are never in another file. */
function attributeTensor({ node }: FoldRequest, name: string): HostTensor | undefined {
  const attribute = node.attributes.get(name);
  if (attribute?.kind !== 'tensor') return undefined;
  if (attribute.value.external !== undefined) {
    throw new NodeProblem('unsupported', 'keeps its constant in another file');
  }
  return readTensor(attribute.value, 'the file');
}

const constant: FoldRule = (request) => {
  const tensor = attributeTensor(request, 'value');
  if (tensor !== undefined) return [tensor];
  for (const [name, attribute] of request.node.attributes) {
    if (!name.startsWith('value_')) continue;
    if (attribute.kind === 'float') return [fromNumbers('float32', [], [attribute.value])];
    if (attribute.kind === 'int') return [hostTensor('int64', [], BigInt64Array.of(attribute.value))];
    if (attribute.kind === 'floats') {
      return [fromNumbers('float32', [attribute.value.length], attribute.value)];
    }
    if (attribute.kind === 'ints') {
      return [hostTensor('int64', [attribute.value.length], BigInt64Array.from(attribute.value))];
    }
  }
  throw new NodeProblem('unsupported', 'holds a constant that is no tensor of numbers');
};

const constantOfShape: FoldRule = (request) => {
  const dims = sizes(request, 0);
  const value = attributeTensor(request, 'value') ?? fromNumbers('float32', [1], [0]);
  if (value.data.length !== 1) throw new NodeProblem('invalid', 'fills with more than one value');
  checkFoldedSize(dims, 0);
  return [expanded(reshaped(value, []), dims)];
};

const cast: FoldRule = (request) => {
  const to = hostTypeOf(intAttribute(request.node.attributes, 'to', 0));
  if (to === undefined) throw new NodeProblem('unsupported', 'casts values to a type that is not supported');
  return [mapType(input(request, 0), to)];
};

const range: FoldRule = (request) => {
  const [start, limit, delta] = [input(request, 0), input(request, 1), input(request, 2)];
  const [from, to, step] = [start, limit, delta].map((tensor) => numbersOf(tensor)[0] ?? Number.NaN) as [
    number,
    number,
    number,
  ];
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!Number.isFinite(count)) throw new NodeProblem('invalid', 'counts without end');
  checkFoldedSize([count], 0);
  return [
    fromNumbers(
      start.dtype,
      [count],
      Float64Array.from({ length: count }, (_, index) => from + index * step),
    ),
  ];
};

const slice: FoldRule = (request) => {
  const x = input(request, 0);
  const starts = sizes(request, 1);
  const ends = sizes(request, 2);
  const axes = (axesOf(request, 3) ?? [...starts.keys()]).map((axis) => resolveAxis(axis, x.dims.length));
  const steps = request.inputs[4] === undefined ? starts.map(() => 1) : sizes(request, 4);
  if ([ends, axes, steps].some(({ length }) => length !== starts.length) || steps.includes(0)) {
    throw new NodeProblem('invalid', 'needs a start, an end and a step other than 0 per axis');
  }
  const dims = [...x.dims];
  const strides = stridesOf(x.dims);
  let offset = 0;
  for (const cut of resolveSlice(x.dims, starts, ends, axes, steps)) {
    dims[cut.axis] = cut.count;
    offset += cut.start * strides[cut.axis]!;
    strides[cut.axis]! *= cut.step;
  }
  return [strided(x, dims, strides, offset)];
};

const split: FoldRule = (request) => {
  const x = input(request, 0);
  const axis = resolveAxis(intAttribute(request.node.attributes, 'axis', 0), x.dims.length);
  const pieces = splitSizes(request, x.dims[axis]!);
  let start = 0;
  return pieces.map((size) => {
    const offset = start * stridesOf(x.dims)[axis]!;
    start += size;
    return strided(
      x,
      x.dims.map((length, at) => (at === axis ? size : length)),
      stridesOf(x.dims),
      offset,
    );
  });
};

/** Sizes of the pieces that a Split of an axis of `size` gives. @throws NodeProblem */
export function splitSizes({ node, inputs }: Omit<FoldRequest, 'opset'>, size: number): number[] {
  const count = node.outputs.length;
  const given = inputs[1] === undefined ? intsAttribute(node.attributes, 'split') : integersOf(inputs[1]);
  const even = Math.ceil(size / count);
  const pieces = given ?? node.outputs.map((_, index) => Math.min(even, size - index * even));
  const total = pieces.reduce((sum, piece) => sum + piece, 0);
  if (pieces.length !== count || total !== size || pieces.some((piece) => piece < 0)) {
    throw new NodeProblem('invalid', `cuts ${size} places into pieces [${pieces.join(', ')}]`);
  }
  return pieces;
}

const squeeze: FoldRule = (request) => {
  const x = input(request, 0);
  const axes = axesOf(request)?.map((axis) => resolveAxis(axis, x.dims.length));
  const dims = x.dims.filter((size, axis) => (axes === undefined ? size !== 1 : !axes.includes(axis)));
  if (elementCount(dims) !== x.data.length) throw new NodeProblem('invalid', 'drops an axis longer than 1');
  return [reshaped(x, dims)];
};

const unsqueeze: FoldRule = (request) => {
  const x = input(request, 0);
  const given = axesOf(request) ?? [];
  const rank = x.dims.length + given.length;
  const axes = new Set(given.map((axis) => resolveAxis(axis, rank)));
  if (axes.size !== given.length) throw new NodeProblem('invalid', 'adds the same axis twice');
  const rest = [...x.dims];
  return [
    reshaped(
      x,
      Array.from({ length: rank }, (_, axis) => (axes.has(axis) ? 1 : rest.shift()!)),
    ),
  ];
};

const reduction: FoldRule = (request) => {
  const { attributes, op } = request.node;
  const x = input(request, 0);
  const axes = axesOf(request) ?? [];
  if (axes.length === 0 && intAttribute(attributes, 'noop_with_empty_axes', 0) !== 0) return [x];
  const keep = intAttribute(attributes, 'keepdims', 1) !== 0;
  return [reduced(x, axes.length > 0 ? axes : [...x.dims.keys()], keep, reductionOperators[op]!)];
};

/** Sums along an axis so far, with or without a place's own value, from either end. */
const cumulativeSum: FoldRule = (request) => {
  const { attributes } = request.node;
  const x = input(request, 0);
  const axis = resolveAxis(sizes(request, 1)[0] ?? 0, x.dims.length);
  const isExclusive = intAttribute(attributes, 'exclusive', 0) !== 0;
  const isReverse = intAttribute(attributes, 'reverse', 0) !== 0;
  const [size, stride] = [x.dims[axis]!, stridesOf(x.dims)[axis]!];
  const values = numbersOf(x);
  const sums = new Array<number>(values.length).fill(0);
  for (const first of values.keys()) {
    if (Math.floor(first / stride) % size !== 0) continue;
    let sum = 0;
    for (let step = 0; step < size; step++) {
      const at = first + (isReverse ? size - 1 - step : step) * stride;
      sums[at] = isExclusive ? sum : sum + values[at]!;
      sum += values[at]!;
    }
  }
  return [fromNumbers(x.dtype, x.dims, sums)];
};

const rules: Readonly<Record<string, FoldRule>> = {
  CumSum: cumulativeSum,
  Constant: constant,
  ConstantOfShape: constantOfShape,
  Cast: cast,
  CastLike: (request) => [mapType(input(request, 0), input(request, 1).dtype)],
  Range: range,
  Slice: slice,
  Split: split,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Identity: (request) => [input(request, 0)],
  Shape: (request) => [shapeOf(request.node, input(request, 0).dims)],
  Size: (request) => [fromNumbers('int64', [], [input(request, 0).data.length])],
  Where: (request) => [chosen(input(request, 0), input(request, 1), input(request, 2))],
  Not: (request) => [mapped(input(request, 0), (value) => (value === 0 ? 1 : 0))],
  Gather: (request) => [
    gathered(input(request, 0), input(request, 1), intAttribute(request.node.attributes, 'axis', 0)),
  ],
  Concat: (request) => [
    concatenated(
      request.node.inputs.map((_, index) => input(request, index)),
      intAttribute(request.node.attributes, 'axis', 0),
    ),
  ],
  Transpose: (request) => {
    const x = input(request, 0);
    const perm = intsAttribute(request.node.attributes, 'perm') ?? [...x.dims.keys()].reverse();
    return [transposed(x, perm)];
  },
  Reshape: (request) => {
    const x = input(request, 0);
    const allowZero = intAttribute(request.node.attributes, 'allowzero', 0) !== 0;
    return [reshaped(x, reshapeDims(x.dims, sizes(request, 1), allowZero))];
  },
  Flatten: (request) => {
    const x = input(request, 0);
    const axis = intAttribute(request.node.attributes, 'axis', 1);
    const cut = axis < 0 ? axis + x.dims.length : axis;
    return [reshaped(x, [elementCount(x.dims.slice(0, cut)), elementCount(x.dims.slice(cut))])];
  },
  Expand: (request) => {
    const x = input(request, 0);
    return [expanded(x, broadcastShape(x.dims, sizes(request, 1)))];
  },
  Tile: (request) => {
    const x = input(request, 0);
    const repeats = sizes(request, 1);
    if (repeats.length !== x.dims.length || repeats.some((count) => count < 0)) {
      throw new NodeProblem('invalid', 'needs one repeat per axis');
    }
    const dims = x.dims.map((size, axis) => size * repeats[axis]!);
    if (checkFoldedSize(dims, 0) === 0) return [fromNumbers(x.dtype, dims, [])];
    return [
      repeats.reduce((tiled, count, axis) => concatenated(new Array<HostTensor>(count).fill(tiled), axis), x),
    ];
  },
  DequantizeLinear: (request) => {
    if (intAttribute(request.node.attributes, 'block_size', 0) !== 0) {
      throw new NodeProblem('unsupported', 'has its scales by blocks');
    }
    const axis = intAttribute(request.node.attributes, 'axis', 1);
    return [dequantized(input(request, 0), input(request, 1), request.inputs[2], axis)];
  },
};

/** Shape's output, with its optional start and end. */
export function shapeOf(node: FileNode, dims: readonly number[]): HostTensor {
  const start = intAttribute(node.attributes, 'start', 0);
  const end = intAttribute(node.attributes, 'end', dims.length);
  const kept = dims.slice(start, end);
  return fromNumbers('int64', [kept.length], kept);
}

/** Whether a node computes new values, rather than moving those that are there. */
export function isArithmetic({ op, domain }: FileNode): boolean {
  if (domain !== '') return false;
  const tables = [binaryOperators, comparisonOperators, unaryOperators, reductionOperators];
  return tables.some((table) => Object.hasOwn(table, op));
}

/** Whether {@link foldNode} knows the operator. */
export function canFold(node: FileNode): boolean {
  const { op, domain } = node;
  if (domain !== '' && !(domain === 'com.microsoft' && op === 'DequantizeLinear')) return false;
  return [rules, binaryOperators, comparisonOperators, unaryOperators, reductionOperators].some((table) =>
    Object.hasOwn(table, op),
  );
}

/**
 * The outputs of a node whose inputs are all known.
 * @throws NodeProblem when its inputs do not fit; AppError MODEL_FILE_INVALID for a bad constant
 */
export function foldNode(request: FoldRequest): HostTensor[] {
  const { op, attributes } = request.node;
  if (Object.hasOwn(rules, op)) return rules[op]!(request);
  if (Object.hasOwn(reductionOperators, op)) return reduction(request);
  const a = input(request, 0);
  if (Object.hasOwn(unaryOperators, op)) return [mapped(a, unaryOperators[op]!)];
  if (Object.hasOwn(comparisonOperators, op)) {
    const holds = comparisonOperators[op]!;
    return [combine(a, input(request, 1), 'bool', (x, y) => (holds(x, y) ? 1 : 0))];
  }
  const remainder = op === 'Mod' && intAttribute(attributes, 'fmod', 0) !== 0;
  const apply = remainder ? (x: number, y: number) => x % y : binaryOperators[op]!;
  const rest = request.inputs.slice(1).map((_, index) => input(request, index + 1));
  // Pow alone may mix types; its result has the type of the base.
  if (op !== 'Pow' && rest.some((tensor) => tensor.dtype !== a.dtype)) {
    throw new NodeProblem('invalid', 'combines values of different types');
  }
  return [rest.reduce((result, tensor) => combine(result, tensor, a.dtype, apply), a)];
}
