/** Operators whose output values each depend on the inputs' values of the same place. */
import * as tf from '@tensorflow/tfjs';
import { floatOf, integerOf, stringOf } from '../../../graph/attributes.ts';
import { castTypeCodes } from '../../../graph/graph.ts';
import type { DataType } from '../../../shared/tensor.ts';
import { type NodeRequest, type Operator, type OperatorTable, placewise, unsupported } from './kernel.ts';

type Unary = (x: tf.Tensor) => tf.Tensor;
type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

const unary =
  (compute: Unary): Operator =>
  () =>
    placewise(compute);

const binary =
  (compute: Binary): Operator =>
  () =>
    placewise((a, b) => compute(a!, b!));

/** Of any number of inputs, for instance Max. */
const variadic =
  (compute: Binary): Operator =>
  () =>
    placewise((first, ...rest) => (rest.length === 0 ? first!.clone() : rest.reduce(compute, first!)));

/** int64 division truncates towards zero; tfjs' own division of integers gives floats. */
function divide(a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  if (a.dtype !== 'int32') return tf.div(a, b);
  return tf.cast(tf.div(tf.cast(a, 'float32'), tf.cast(b, 'float32')), 'int32');
}

function geluOf(x: tf.Tensor, approximate: boolean): tf.Tensor {
  const inner = approximate
    ? tf.tanh(tf.mul(Math.sqrt(2 / Math.PI), tf.add(x, tf.mul(0.044715, tf.mul(x, tf.mul(x, x))))))
    : tf.erf(tf.mul(x, Math.SQRT1_2));
  return tf.mul(tf.mul(x, 0.5), tf.add(inner, 1));
}

const hardSigmoidOf = (x: tf.Tensor, alpha: number, beta: number) =>
  tf.clipByValue(tf.add(tf.mul(x, alpha), beta), 0, 1);

/** The names by which tfjs knows our types; its integers have 32 bits. */
export const tfTypes = { float32: 'float32', int64: 'int32', bool: 'bool' } as const satisfies Record<
  DataType,
  tf.DataType
>;

const cast: Operator = (request) => {
  const code = integerOf(request.attributes, 'to', 0);
  const target = (Object.keys(castTypeCodes) as DataType[]).find((name) => castTypeCodes[name] === code);
  if (target === undefined) throw unsupported(request, `type ${code} is missing here`);
  return placewise((x) => (x!.dtype === tfTypes[target] ? x!.clone() : tf.cast(x!, tfTypes[target])));
};

const clip: Operator = (request) => {
  const hasLow = request.inputs[1] !== undefined;
  const compute = placewise((x, ...bounds) => {
    const raised = hasLow ? tf.maximum(x!, bounds[0]!) : x!;
    const high = bounds[hasLow ? 1 : 0];
    return high === undefined ? raised.clone() : tf.minimum(raised, high);
  });
  return (inputs) => compute(inputs.filter((input) => input !== undefined));
};

const floatSetting = ({ attributes }: NodeRequest, name: string, fallback: number) =>
  floatOf(attributes, name, fallback);

/** x where positive, else slope · x; also right for slopes that broadcast. */
const steeper: Binary = (x, slope) => tf.where(tf.greater(x, tf.scalar(0)), x, tf.mul(x, slope));

const arithmetic: OperatorTable = {
  Add: binary((a, b) => tf.add(a, b)),
  Sub: binary((a, b) => tf.sub(a, b)),
  Mul: binary((a, b) => tf.mul(a, b)),
  Div: binary(divide),
  Pow: binary((a, b) => tf.pow(a, b)),
  Max: variadic((a, b) => tf.maximum(a, b)),
  Min: variadic((a, b) => tf.minimum(a, b)),
  Equal: binary((a, b) => tf.equal(a, b)),
  Greater: binary((a, b) => tf.greater(a, b)),
  Less: binary((a, b) => tf.less(a, b)),
  Where: () => placewise((condition, a, b) => tf.where(condition!, a!, b!)),
};

const functions: OperatorTable = {
  Identity: unary((x) => x.clone()),
  Cast: cast,
  Neg: unary((x) => tf.neg(x)),
  Abs: unary((x) => tf.abs(x)),
  Sign: unary((x) => tf.sign(x)),
  Reciprocal: unary((x) => tf.reciprocal(x)),
  Sqrt: unary((x) => tf.sqrt(x)),
  Exp: unary((x) => tf.exp(x)),
  Log: unary((x) => tf.log(x)),
  Erf: unary((x) => tf.erf(x)),
};

const activations: OperatorTable = {
  Tanh: unary((x) => tf.tanh(x)),
  Sigmoid: unary((x) => tf.sigmoid(x)),
  Relu: unary((x) => tf.relu(x)),
  Softplus: unary((x) => tf.softplus(x)),
  Gelu: (request) => {
    const approximate = stringOf(request.attributes, 'approximate', 'none') === 'tanh';
    return placewise((x) => geluOf(x!, approximate));
  },
  LeakyRelu: (request) => {
    const slope = floatSetting(request, 'alpha', 0.01);
    return placewise((x) => steeper(x!, tf.scalar(slope)));
  },
  PRelu: binary(steeper),
  Elu: (request) => {
    const alpha = floatSetting(request, 'alpha', 1);
    return placewise((x) => tf.where(tf.greater(x!, tf.scalar(0)), x!, tf.mul(alpha, tf.expm1(x!))));
  },
  HardSigmoid: (request) => {
    const [alpha, beta] = [floatSetting(request, 'alpha', 0.2), floatSetting(request, 'beta', 0.5)];
    return placewise((x) => hardSigmoidOf(x!, alpha, beta));
  },
  Clip: clip,
};

export const elementwiseOperators: OperatorTable = { ...arithmetic, ...functions, ...activations };
