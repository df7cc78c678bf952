/** Operators that give values another shape or order, or repeat them. */
import { elementCount } from '../../shared/tensor.ts';
import { type Attributes, integerOf, integersOf, stringOf } from '../attributes.ts';
import {
  broadcastDims,
  constantIntegers,
  constantNumbers,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
  requiredIntegers,
  resolveAxis,
} from './operator.ts';
import { repeatWhole, reshaped } from './shared-nodes.ts';

const inferReshape: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const literalZero = integerOf(request.attributes, 'allowzero', 0) !== 0;
  const wanted = requiredIntegers(request, 1).map((size, axis) =>
    size === 0 && !literalZero ? (dims[axis] ?? 0) : size,
  );
  const known = elementCount(wanted.filter((size) => size !== -1));
  const result = wanted.map((size) => (size === -1 ? elementCount(dims) / known : size));
  if (elementCount(result) !== elementCount(dims) || !result.every(Number.isInteger)) {
    throw mismatch(request, `it cannot become [${wanted.join(', ')}]`);
  }
  return [{ dtype, dims: result }];
};

const inferFlatten: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const axis = integerOf(request.attributes, 'axis', 1);
  const cut = axis < 0 ? axis + dims.length : axis;
  if (cut < 0 || cut > dims.length) throw mismatch(request, `there is no axis ${axis}`);
  return [{ dtype, dims: [elementCount(dims.slice(0, cut)), elementCount(dims.slice(cut))] }];
};

const inferSqueeze: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const axes = constantIntegers(request, 1)?.map((axis) => resolveAxis(request, axis, dims.length));
  const gone = new Set(axes ?? dims.flatMap((size, axis) => (size === 1 ? [axis] : [])));
  if (dims.some((size, axis) => gone.has(axis) && size !== 1)) {
    throw mismatch(request, 'an axis is longer than 1');
  }
  return [{ dtype, dims: dims.filter((_, axis) => !gone.has(axis)) }];
};

const inferUnsqueeze: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const given = requiredIntegers(request, 1);
  const rank = dims.length + given.length;
  const added = new Set(given.map((axis) => resolveAxis(request, axis, rank)));
  if (added.size !== given.length) throw mismatch(request, 'an axis is listed twice');
  const rest = [...dims];
  return [{ dtype, dims: Array.from({ length: rank }, (_, axis) => (added.has(axis) ? 1 : rest.shift()!)) }];
};

const toInputShape: GradientRule = ({ builder, node, gradient }) => [
  reshaped(builder, gradient, builder.dimsOf(node.inputs[0]!)),
];

/** Which axis of a value of this rank Transpose puts in each place. */
export function permutationOf(attributes: Attributes, rank: number): number[] {
  const reversed = Array.from({ length: rank }, (_, axis) => rank - 1 - axis);
  return integersOf(attributes, 'perm', reversed);
}

const inferTranspose: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const permutation = permutationOf(request.attributes, dims.length);
  if ([...permutation].sort((a, b) => a - b).join() !== dims.map((_, axis) => axis).join()) {
    throw mismatch(request, `[${permutation.join(', ')}] is not a permutation of its axes`);
  }
  return [{ dtype, dims: permutation.map((axis) => dims[axis]!) }];
};

const throughTranspose: GradientRule = ({ builder, node, gradient }) => {
  const permutation = permutationOf(node.attributes, builder.dimsOf(gradient).length);
  const inverse = permutation.map((_, axis) => permutation.indexOf(axis));
  return [builder.transpose(gradient, inverse)];
};

const inferExpand: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const result = broadcastDims(dims, requiredIntegers(request, 1));
  if (result === undefined) throw mismatch(request, 'it does not broadcast');
  return [{ dtype, dims: result }];
};

/** Sizes of an image [batch, channels, height, width] and the block size. */
function blocksOf(request: OperatorRequest): [number, number, number, number, number] {
  const dims = request.builder.dimsOf(inputName(request, 0));
  const block = integerOf(request.attributes, 'blocksize', 0);
  if (dims.length !== 4 || block < 1) throw mismatch(request, `rank 4 and a block size are needed`);
  return [...(dims as [number, number, number, number]), block];
}

function depthToSpace(request: OperatorRequest): string[] {
  const { builder, attributes } = request;
  const [batch, channels, height, width, block] = blocksOf(request);
  if (channels % (block * block) !== 0)
    throw mismatch(request, `${channels} channels do not fill the blocks`);
  const depth = channels / (block * block);
  const columnFirst = stringOf(attributes, 'mode', 'DCR') === 'CRD';
  const split = columnFirst
    ? builder.reshape(request.inputs[0]!, [batch, depth, block, block, height, width])
    : builder.reshape(request.inputs[0]!, [batch, block, block, depth, height, width]);
  const moved = builder.transpose(split, columnFirst ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2]);
  return [builder.reshape(moved, [batch, depth, height * block, width * block])];
}

function spaceToDepth(request: OperatorRequest): string[] {
  const { builder } = request;
  const [batch, channels, height, width, block] = blocksOf(request);
  if (height % block !== 0 || width % block !== 0) throw mismatch(request, `blocks of ${block} do not fit`);
  const [rows, columns] = [height / block, width / block];
  const split = builder.reshape(request.inputs[0]!, [batch, channels, rows, block, columns, block]);
  const moved = builder.transpose(split, [0, 3, 5, 1, 2, 4]);
  return [builder.reshape(moved, [batch, channels * block * block, rows, columns])];
}

function tile(request: OperatorRequest): string[] {
  const { builder } = request;
  const x = inputName(request, 0);
  const repeats = constantNumbers(request, 1) ?? [];
  if (repeats.length !== builder.dimsOf(x).length || repeats.some((count) => count < 1)) {
    throw mismatch(request, 'it needs one positive repeat per axis');
  }
  return [repeats.every((count) => count === 1) ? builder.identity(x) : repeatWhole(builder, x, repeats)];
}

export const shapeOperators: OperatorTable = {
  Reshape: { trainable: 'input', infer: inferReshape, gradient: toInputShape },
  Flatten: { trainable: 'input', infer: inferFlatten, gradient: toInputShape },
  Squeeze: { trainable: 'input', infer: inferSqueeze, gradient: toInputShape },
  Unsqueeze: { trainable: 'input', infer: inferUnsqueeze, gradient: toInputShape },
  Transpose: { trainable: 'input', infer: inferTranspose, gradient: throughTranspose },
  Expand: { trainable: 'input', infer: inferExpand, gradient: ({ gradient }) => [gradient] },
  DepthToSpace: { trainable: 'input', fileAttributes: ['blocksize', 'mode'], compose: depthToSpace },
  SpaceToDepth: { trainable: 'input', fileAttributes: ['blocksize'], compose: spaceToDepth },
  Tile: { trainable: 'input', fileAttributes: [], compose: tile },
};
