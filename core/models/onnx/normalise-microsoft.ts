/**
 * Operators of the domain com.microsoft that ONNX Runtime's offline optimiser writes, undone.
 * Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
import { floatAttribute, graphAttributes, intAttribute, NodeProblem, stringAttribute } from './attributes.ts';
import { multiHeadAttention, packedAttention } from './normalise-attention.ts';
import { rootMeanSquare, tanhGelu } from './normalise-norm.ts';
import { dequantize, quantize } from './normalise-quantised.ts';
import { conv } from './normalise-window.ts';
import { computed, type NodeContext, type NodeRule } from './value.ts';

const fusedMatMul: NodeRule = (context) => {
  const { builder, node } = context;
  if (
    intAttribute(node.attributes, 'transBatchA', 0) + intAttribute(node.attributes, 'transBatchB', 0) !==
    0
  ) {
    throw new NodeProblem('unsupported', 'transposes the batch axes');
  }
  const side = (index: number, attribute: string): string => {
    const name = context.read(index);
    if (intAttribute(node.attributes, attribute, 0) === 0) return name;
    const axes = [...builder.dimsOf(name).keys()];
    const last = axes.splice(-2);
    return builder.transpose(name, [...axes, ...last.reverse()]);
  };
  const product = builder.matMul(side(0, 'transA'), side(1, 'transB'));
  const alpha = floatAttribute(node.attributes, 'alpha', 1);
  return [computed(alpha === 1 ? product : builder.mul(product, builder.scalar(alpha)))];
};

const activations: Readonly<
  Record<string, (context: NodeContext, x: string, params: readonly number[]) => string>
> = {
  Relu: ({ builder }, x) => builder.relu(x),
  Sigmoid: ({ builder }, x) => builder.sigmoid(x),
  Tanh: ({ builder }, x) => builder.tanh(x),
  LeakyRelu: ({ builder }, x, [alpha = 0.01]) =>
    builder.append1('LeakyRelu', [x], { alpha: { float: alpha } }),
  Clip: ({ builder }, x, [low = -Infinity, high = Infinity]) =>
    builder.append1('Clip', [x, builder.scalar(low), builder.scalar(high)]),
  HardSigmoid: ({ builder }, x, [alpha = 0.2, beta = 0.5]) =>
    builder.append1('HardSigmoid', [x], { alpha: { float: alpha }, beta: { float: beta } }),
};

/** Convolution, a summand as fourth input, and an activation. */
const fusedConv: NodeRule = (context) => {
  const { builder, node } = context;
  const [product] = conv(context);
  let x = context.write(product!);
  const summand = context.readOptional(3);
  if (summand !== '') x = builder.add(x, summand);
  const activation = stringAttribute(node.attributes, 'activation', '');
  if (activation === '') return [computed(x)];
  if (!Object.hasOwn(activations, activation)) {
    throw new NodeProblem('unsupported', `has the activation "${activation}"`);
  }
  const params = node.attributes.get('activation_params');
  return [computed(activations[activation]!(context, x, params?.kind === 'floats' ? params.value : []))];
};

const skipLayerNormalization: NodeRule = (context) => {
  const { builder, node } = context;
  if (node.outputs.slice(1, 3).some((name) => name !== '')) {
    throw new NodeProblem('unsupported', 'outputs its mean and deviation');
  }
  const bias = context.readOptional(4);
  const plain = builder.add(context.read(0), context.read(1));
  const sum = bias === '' ? plain : builder.add(plain, bias);
  const inputs = [sum, context.read(2), context.readOptional(3)].filter((name) => name !== '');
  const epsilon = { float: floatAttribute(node.attributes, 'epsilon', 1e-12) };
  const normal = builder.append1('LayerNormalization', inputs, { axis: -1, epsilon });
  return [normal, sum, sum, sum].slice(0, node.outputs.length).map(computed);
};

/** The sum of input and skip, normalised without a mean. */
const skipSimplified: NodeRule = (context) => {
  const { builder, node } = context;
  if (node.outputs.slice(1, 3).some((name) => name !== '')) {
    throw new NodeProblem('unsupported', 'outputs its mean and deviation');
  }
  const bias = context.readOptional(3);
  const plain = builder.add(context.read(0), context.read(1));
  const sum = bias === '' ? plain : builder.add(plain, bias);
  const epsilon = floatAttribute(node.attributes, 'epsilon', 1e-5);
  const normal = rootMeanSquare(context, sum, context.read(2), -1, epsilon);
  return [normal, sum, sum, sum].slice(0, node.outputs.length).map(computed);
};

/** A Gemm with an activation. */
const fusedGemm: NodeRule = (context) => {
  const { builder, node } = context;
  const inputs = [context.read(0), context.read(1), context.readOptional(2)].filter((name) => name !== '');
  const attributes = graphAttributes(node.attributes, ['alpha', 'beta', 'transA', 'transB']);
  const product = builder.append1('Gemm', inputs, attributes);
  const activation = stringAttribute(node.attributes, 'activation', '');
  if (activation === '') return [computed(product)];
  if (!Object.hasOwn(activations, activation)) {
    throw new NodeProblem('unsupported', `has the activation "${activation}"`);
  }
  const params = ['activation_alpha', 'activation_beta'].flatMap((name) =>
    node.attributes.has(name) ? [floatAttribute(node.attributes, name, 0)] : [],
  );
  return [computed(activations[activation]!(context, product, params))];
};

/** Softmax of a sum, over the last axes from `axis` on. */
const biasSoftmax: NodeRule = (context) => {
  const { builder, node } = context;
  const sum = builder.add(context.read(0), context.read(1));
  const rank = builder.dimsOf(sum).length;
  const axis = intAttribute(node.attributes, 'axis', 1);
  if ((axis < 0 ? axis + rank : axis) !== rank - 1)
    throw new NodeProblem('unsupported', 'takes several axes together');
  return [computed(builder.softmax(sum))];
};

export const microsoftRules: Readonly<Record<string, NodeRule>> = {
  Attention: packedAttention,
  MultiHeadAttention: multiHeadAttention,
  SkipSimplifiedLayerNormalization: skipSimplified,
  FusedGemm: fusedGemm,
  BiasSoftmax: biasSoftmax,
  QuantizeLinear: quantize,
  DequantizeLinear: dequantize,
  BiasAdd: (context) => {
    const { builder } = context;
    return [computed(builder.add(builder.add(context.read(0), context.read(1)), context.read(2)))];
  },
  FusedMatMul: fusedMatMul,
  FusedConv: fusedConv,
  SkipLayerNormalization: skipLayerNormalization,
  Gelu: (context) => [computed(context.builder.gelu(context.read(0)))],
  BiasGelu: (context) => {
    const { builder } = context;
    return [computed(builder.gelu(builder.add(context.read(0), context.read(1))))];
  },
  FastGelu: (context) => {
    const bias = context.readOptional(1);
    const x = bias === '' ? context.read(0) : context.builder.add(context.read(0), bias);
    return [computed(tanhGelu(context, x))];
  },
  QuickGelu: (context) => {
    const { builder } = context;
    const x = context.read(0);
    const alpha = floatAttribute(context.node.attributes, 'alpha', 1.702);
    return [computed(builder.mul(x, builder.sigmoid(builder.mul(x, builder.scalar(alpha)))))];
  },
};
