/** Arithmetic, comparisons and functions of single values, with numpy's broadcasting. */
import type { DataType } from '../../shared/tensor.ts';
import { integerOf } from '../attributes.ts';
import { castTypeCodes, type ValueType } from '../graph.ts';
import type { OperatorBuilder } from '../operator-builder.ts';
import {
  broadcastDims,
  floatInput,
  type GradientRequest,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  mismatch,
  type Operator,
  type OperatorRequest,
  type OperatorTable,
} from './operator.ts';
import { asMask, scaled } from './shared-nodes.ts';

function broadcastAll(request: OperatorRequest): number[] {
  let dims: number[] = [];
  for (let index = 0; index < request.inputs.length; index++) {
    const joined = broadcastDims(dims, inputOf(request, index).dims);
    if (joined === undefined) throw mismatch(request, 'they do not broadcast');
    dims = joined;
  }
  return dims;
}

const arithmetic: InferenceRule = (request) => {
  const dtype = inputOf(request, 0).dtype;
  if (inputOf(request, 1).dtype !== dtype) throw mismatch(request, 'the types differ');
  return [{ dtype, dims: broadcastAll(request) }];
};

const same: InferenceRule = (request) => [inputOf(request, 0)];
export const sameFloat: InferenceRule = (request) => [floatInput(request, 0)];

/** A rule for two operands from their two partial products. */
function partial(
  left: (request: GradientRequest) => string,
  right: (request: GradientRequest) => string,
): GradientRule {
  return (request) => [left, right].map((part, index) => (request.needed[index] ? part(request) : undefined));
}

/** A rule for one input x with the output y. */
export function along(part: (request: GradientRequest, x: string, y: string) => string): GradientRule {
  return (request) => [part(request, request.node.inputs[0]!, request.node.outputs[0]!)];
}

/** An operator of one float input that files of every opset write alike. */
export function unary(part: Parameters<typeof along>[0], infer = sameFloat): Operator {
  return { trainable: 'input', fileAttributes: [], infer, gradient: along(part) };
}

function binary(...parts: Parameters<typeof partial>): Operator {
  return { trainable: 'both', fileAttributes: [], infer: arithmetic, gradient: partial(...parts) };
}

const comparison: Operator = {
  trainable: 'none',
  fileAttributes: [],
  infer: (request) => [{ dtype: 'bool', dims: broadcastAll(request) }],
};

/** d a^e / d a = e · a^(e − 1), without a power where the exponent is a known 1, 2 or 3. */
function powerBase({ builder: b, gradient, node: { inputs } }: GradientRequest): string {
  const [base, exponent] = inputs as [string, string];
  const known = b.constantOf(exponent);
  const value = known?.data.length === 1 ? Number(known.data[0]) : undefined;
  if (value === 1) return gradient;
  if (value === 2) return b.mul(gradient, scaled(b, base, 2));
  if (value === 3) return b.mul(gradient, scaled(b, b.mul(base, base), 3));
  const lower = value === undefined ? b.sub(exponent, b.scalar(1)) : b.scalar(value - 1);
  return b.mul(gradient, b.mul(exponent, b.pow(base, lower)));
}

/** Min or Max: of two operands the one that was taken gets the gradient; of equal ones the first. */
function extreme(
  isSecond: (operands: readonly [string, string], builder: OperatorBuilder) => string,
): Operator {
  const gradient: GradientRule = ({ builder: b, node, gradient, needed }) => {
    const toSecond = b.mul(gradient, asMask(b, isSecond(node.inputs as [string, string], b)));
    return [needed[0] ? b.sub(gradient, toSecond) : undefined, needed[1] ? toSecond : undefined];
  };
  return { trainable: 'both', fileAttributes: [], infer: arithmetic, gradient, compose: pairwise };
}

/** Of more or fewer than two operands: pair by pair. */
function pairwise(request: OperatorRequest): string[] | undefined {
  const { builder, op, inputs } = request;
  if (inputs.length === 2) return undefined;
  inputName(request, 0);
  return [inputs.reduce((best, value) => builder.append1(op, [best, value]))];
}

/** Sum times a factor; Mean divides by the count. */
function sumOf(factor: (request: OperatorRequest) => number): Operator {
  const compose = (request: OperatorRequest) => {
    const { builder, inputs } = request;
    inputName(request, 0);
    return [
      scaled(
        builder,
        inputs.reduce((total, value) => builder.add(total, value)),
        factor(request),
      ),
    ];
  };
  return { trainable: 'both', fileAttributes: [], compose };
}

function inferWhere(request: OperatorRequest): ValueType[] {
  const [condition, a, b] = [inputOf(request, 0), inputOf(request, 1), inputOf(request, 2)];
  if (condition.dtype !== 'bool' || a.dtype !== b.dtype) throw mismatch(request, 'the types do not match');
  return [{ dtype: a.dtype, dims: broadcastAll(request) }];
}

const throughWhere: GradientRule = ({ builder: b, gradient, node, needed }) => {
  const [zero, condition] = [b.scalar(0), node.inputs[0]!];
  return [
    undefined,
    needed[1] ? b.where(condition, gradient, zero) : undefined,
    needed[2] ? b.where(condition, zero, gradient) : undefined,
  ];
};

function inferCast(request: OperatorRequest): ValueType[] {
  const code = integerOf(request.attributes, 'to', 0);
  const dtype = (Object.keys(castTypeCodes) as DataType[]).find((name) => castTypeCodes[name] === code);
  if (dtype === undefined) throw mismatch(request, 'this target type is not supported');
  return [{ dtype, dims: inputOf(request, 0).dims }];
}

const unchanged: GradientRule = ({ gradient }) => [gradient];

export const elementwiseOperators: OperatorTable = {
  Add: binary(
    ({ gradient }) => gradient,
    ({ gradient }) => gradient,
  ),
  Sub: binary(
    ({ gradient }) => gradient,
    ({ builder, gradient }) => builder.neg(gradient),
  ),
  Mul: binary(
    ({ builder, gradient, node }) => builder.mul(gradient, node.inputs[1]!),
    ({ builder, gradient, node }) => builder.mul(gradient, node.inputs[0]!),
  ),
  Div: binary(
    ({ builder, gradient, node }) => builder.div(gradient, node.inputs[1]!),
    ({ builder, gradient, node }) =>
      builder.neg(builder.div(builder.mul(gradient, node.outputs[0]!), node.inputs[1]!)),
  ),
  Pow: {
    trainable: 'both',
    infer: arithmetic,
    gradient: partial(powerBase, ({ builder: b, gradient, node: { inputs, outputs } }) =>
      b.mul(gradient, b.mul(outputs[0]!, b.log(inputs[0]!))),
    ),
  },
  Min: extreme(([left, right], b) => b.less(right, left)),
  Max: extreme(([left, right], b) => b.less(left, right)),
  Sum: sumOf(() => 1),
  Mean: sumOf(({ inputs }) => 1 / inputs.length),
  Equal: comparison,
  Greater: comparison,
  Less: comparison,
  Where: { trainable: 'both', fileAttributes: [], infer: inferWhere, gradient: throughWhere },
  Identity: { trainable: 'input', infer: same, gradient: unchanged },
  Cast: { trainable: 'input', infer: inferCast, gradient: unchanged },
  Sign: { trainable: 'none', fileAttributes: [], infer: same },
  Neg: unary(({ builder, gradient }) => builder.neg(gradient), same),
  Abs: unary(({ builder, gradient }, x) => builder.mul(gradient, builder.sign(x)), same),
  Reciprocal: unary(({ builder: b, gradient }, _x, y) => b.neg(b.mul(gradient, b.mul(y, y)))),
  Sqrt: unary(({ builder, gradient }, _x, y) => builder.div(scaled(builder, gradient, 0.5), y)),
  Exp: unary(({ builder, gradient }, _x, y) => builder.mul(gradient, y)),
  Log: unary(({ builder, gradient }, x) => builder.div(gradient, x)),
  Erf: unary(({ builder: b, gradient }, x) =>
    b.mul(gradient, scaled(b, b.exp(b.neg(b.mul(x, x))), 2 / Math.sqrt(Math.PI))),
  ),
};
