/** Activations. Where it can, a gradient asks the output: it is alive anyhow, the input may not be. */
import { floatOf, integerOf, stringOf } from '../attributes.ts';
import { along, sameFloat, unary } from './elementwise.ts';
import {
  broadcastDims,
  type Composition,
  constantNumbers,
  floatInput,
  type GradientRequest,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  mismatch,
  type OperatorTable,
  optionalInput,
  unsupported,
} from './operator.ts';
import { asMask, positiveMask, scaled } from './shared-nodes.ts';

/** 1 where x is positive, for an activation that multiplies negative x by `slopes`; 0 elsewhere. */
function maskOf({ builder, node }: GradientRequest, slopes: ArrayLike<number | bigint> | undefined): string {
  const signKept = slopes !== undefined && Array.from(slopes, Number).every((slope) => slope >= 0);
  return positiveMask(builder, signKept ? node.outputs[0]! : node.inputs[0]!);
}

/** The gradient times 1 where x is positive and times the slope elsewhere. */
function throughSlope(request: GradientRequest, slope: string): string {
  const { builder: b, gradient } = request;
  const known = b.constantOf(slope)?.data;
  const mask = maskOf(request, known);
  if (known !== undefined && Array.from(known, Number).every((value) => value >= 0 && value <= 1)) {
    return b.mul(gradient, b.max(mask, slope));
  }
  return b.mul(gradient, b.add(b.mul(mask, b.sub(b.scalar(1), slope)), slope));
}

function throughLeak(request: GradientRequest): string {
  return throughSlope(request, request.builder.scalar(floatOf(request.node.attributes, 'alpha', 0.01)));
}

/** Broadcasts to the shape of x, which does not grow itself. */
const inferPrelu: InferenceRule = (request) => {
  const [x, slope] = [floatInput(request, 0), floatInput(request, 1)];
  if (broadcastDims(slope.dims, x.dims)?.join() !== x.dims.join()) {
    throw mismatch(request, 'the slope does not broadcast to the input');
  }
  return [x];
};

/** Source: He et al. 2015. */
const throughPrelu: GradientRule = (request) => {
  const { builder: b, node, gradient, needed } = request;
  const [x, slope] = node.inputs as [string, string];
  return [
    needed[0] ? throughSlope(request, slope) : undefined,
    needed[1] ? b.mul(gradient, b.min(x, b.scalar(0))) : undefined,
  ];
};

/** Below 0 the output is alpha · (exp x − 1), whose slope is the output plus alpha. */
function throughElu({ builder: b, node, gradient }: GradientRequest, x: string, y: string): string {
  const alpha = floatOf(node.attributes, 'alpha', 1);
  if (alpha === 1) return b.mul(gradient, b.add(b.min(y, b.scalar(0)), b.scalar(1)));
  const sign = alpha >= 0 ? y : x;
  const slope = b.where(b.greater(sign, b.scalar(0)), b.scalar(1), b.add(y, b.scalar(alpha)));
  return b.mul(gradient, slope);
}

/** y · (1 − y) is positive exactly between the two flat ends. */
function throughHardSigmoid({ builder: b, node, gradient }: GradientRequest, _x: string, y: string): string {
  const rising = positiveMask(b, b.sub(y, b.mul(y, y)));
  return scaled(b, b.mul(gradient, rising), floatOf(node.attributes, 'alpha', 0.2));
}

const inferClip: InferenceRule = (request) => {
  const x = inputOf(request, 0);
  for (let index = 1; index < request.inputs.length; index++) {
    const bound = optionalInput(request, index) ?? { dtype: x.dtype, dims: [] };
    if (bound.dims.length > 0 || bound.dtype !== x.dtype) {
      throw mismatch(request, 'its bounds need to be scalars of the type of the input');
    }
  }
  return [x];
};

/**
 * d x·Φ(x) / dx = Φ(x) + x·φ(x). With t = x/√2 that is half of (1 + erf t) + t·exp(ln(2/√π) − t²): few passes
 * over memory, and t and erf t are what the forward pass computes as well.
 */
function exactGeluSlope({ builder: b }: GradientRequest, x: string): string {
  const t = scaled(b, x, Math.SQRT1_2);
  const twiceCumulative = b.add(b.erf(t), b.scalar(1));
  const density = b.exp(b.sub(b.scalar(Math.log(2 / Math.sqrt(Math.PI))), b.mul(t, t)));
  return b.add(twiceCumulative, b.mul(t, density));
}

/** d ½x(1 + tanh u) / dx with u = √(2/π)(x + 0.044715x³), doubled. */
function tanhGeluSlope({ builder: b }: GradientRequest, x: string): string {
  const cubic = 0.044715;
  const factor = Math.sqrt(2 / Math.PI);
  const square = b.mul(x, x);
  const inner = b.mul(scaled(b, x, factor), b.add(scaled(b, square, cubic), b.scalar(1)));
  const tanh = b.tanh(inner);
  const slope = b.add(scaled(b, square, 3 * cubic * factor), b.scalar(factor));
  const rise = b.sub(b.scalar(1), b.mul(tanh, tanh));
  return b.add(b.add(tanh, b.scalar(1)), b.mul(b.mul(x, rise), slope));
}

/** Source: Hendrycks and Gimpel 2016. */
const throughGelu = along((request, x) => {
  const { builder: b, node, gradient } = request;
  const isExact = stringOf(node.attributes, 'approximate', 'none') !== 'tanh';
  return b.mul(scaled(b, gradient, 0.5), (isExact ? exactGeluSlope : tanhGeluSlope)(request, x));
});

/** x · max(0, min(1, x / 6 + 1 / 2)). Source: Howard et al. 2019 (MobileNetV3). */
const hardSwish: Composition = (request) => {
  const { builder } = request;
  const x = inputName(request, 0);
  const attributes = { alpha: { float: 1 / 6 }, beta: { float: 0.5 } };
  return [builder.mul(x, builder.append1('HardSigmoid', [x], attributes))];
};

/** x · tanh(log(1 + exp x)). Source: Misra 2019. */
const mish: Composition = (request) => {
  const { builder } = request;
  const x = inputName(request, 0);
  return [builder.mul(x, builder.tanh(builder.softplus(x)))];
};

/** gamma · Elu(x; alpha). Source: Klambauer et al. 2017; the defaults are those of the ONNX page. */
const selu: Composition = (request) => {
  const { builder, attributes } = request;
  const alpha = floatOf(attributes, 'alpha', 1.6732632423543772);
  const gamma = floatOf(attributes, 'gamma', 1.0507009873554805);
  return [builder.mul(builder.elu(inputName(request, 0), alpha), builder.scalar(gamma))];
};

const softsign: Composition = (request) => {
  const { builder } = request;
  const x = inputName(request, 0);
  return [builder.div(x, builder.add(builder.abs(x), builder.scalar(1)))];
};

/** In inference, which is what a frozen base always is, Dropout gives its input. */
const dropout: Composition = (request) => {
  const { outputCount, attributes } = request;
  const training = constantNumbers(request, 2)?.[0] ?? integerOf(attributes, 'training_mode', 0);
  if (training !== 0) throw unsupported(request, 'is supported in inference only');
  if (outputCount > 1) throw unsupported(request, 'is supported without its mask as output');
  return [request.builder.identity(inputName(request, 0))];
};

export const activationOperators: OperatorTable = {
  Tanh: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.sub(b.scalar(1), b.mul(y, y)))),
  Sigmoid: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, b.mul(y, b.sub(b.scalar(1), y)))),
  Relu: unary(({ builder: b, gradient }, _x, y) => b.mul(gradient, positiveMask(b, y))),
  Softplus: unary(({ builder: b, gradient }, x) => b.mul(gradient, b.sigmoid(x))),
  LeakyRelu: { ...unary(throughLeak), fileAttributes: ['alpha'] },
  PRelu: { trainable: 'both', fileAttributes: [], infer: inferPrelu, gradient: throughPrelu },
  Elu: { ...unary(throughElu), fileAttributes: ['alpha'] },
  HardSigmoid: { ...unary(throughHardSigmoid), fileAttributes: ['alpha', 'beta'] },
  // At a bound itself the gradient goes through, as in PyTorch.
  Clip: {
    trainable: 'input',
    infer: inferClip,
    gradient: along(({ builder: b, gradient }, x, y) => b.mul(gradient, asMask(b, b.equal(x, y)))),
  },
  Gelu: { trainable: 'input', infer: sameFloat, gradient: throughGelu },
  HardSwish: { trainable: 'input', fileAttributes: [], compose: hardSwish },
  Mish: { trainable: 'input', fileAttributes: [], compose: mish },
  Selu: { trainable: 'input', fileAttributes: ['alpha', 'gamma'], compose: selu },
  Softsign: { trainable: 'input', fileAttributes: [], compose: softsign },
  Dropout: { trainable: 'input', compose: dropout },
};
