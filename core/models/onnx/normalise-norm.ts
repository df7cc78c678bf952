/** Normalisations, activations and casts: older forms, and what the file's types say beyond ours. */
import { castTypeCodes } from '../../graph/graph.ts';
import { elementCount } from '../../shared/tensor.ts';
import { floatAttribute, graphAttributes, intAttribute, NodeProblem, stringAttribute } from './attributes.ts';
import { strided } from './fold-layout.ts';
import { mapType } from './host-tensor.ts';
import { hostTypeOf } from './tensors.ts';
import { computed, type Known, type NodeContext, type NodeRule, type Value } from './value.ts';

export const identity: NodeRule = (context) => [context.input(0)];

export const dropout: NodeRule = (context) => {
  if (Number(context.known(2)?.data[0] ?? 0) !== 0)
    throw new NodeProblem('unsupported', 'is in training mode');
  return [context.input(0)];
};

/** All floats are float32 here, so that casts between their kinds go. */
export const cast: NodeRule = (context) =>
  castTo(context, hostTypeOf(intAttribute(context.node.attributes, 'to', 0)));

export const castLike: NodeRule = (context) => {
  const like = context.input(1);
  const type = like.kind === 'known' ? like.tensor.dtype : context.builder.typeOf(like.name).dtype;
  return castTo(context, type);
};

function castTo(context: NodeContext, host: ReturnType<typeof hostTypeOf>): Value[] {
  const value = context.input(0);
  if (value.kind === 'known') {
    if (host === undefined)
      throw new NodeProblem('unsupported', 'casts values to a type that is not supported');
    return [{ ...value, tensor: mapType(value.tensor, host) }];
  }
  const from = context.builder.typeOf(value.name).dtype;
  const code = intAttribute(context.node.attributes, 'to', 0);
  // Narrow integers wrap around, which int64 would not.
  const isNarrow = host === 'int32' && context.node.op === 'Cast' && code !== 6;
  if (host === undefined || isNarrow) {
    throw new NodeProblem('unsupported', 'casts values to a type that is not supported');
  }
  const to = host === 'int32' ? 'int64' : host;
  if (from === to) return [value];
  return [computed(context.builder.append1('Cast', [value.name], { to: castTypeCodes[to] }))];
}

/** Scalars of a bound or a fill value may come as a vector of one. */
function scalarOf(context: NodeContext, index: number): string {
  const tensor = context.known(index);
  if (tensor === undefined || tensor.data.length === 0) return '';
  if (tensor.data.length !== 1) throw new NodeProblem('invalid', `needs a scalar as input ${index}`);
  return context.write({ kind: 'known', tensor: { ...tensor, dims: [] }, key: undefined, stem: '' });
}

export const clip: NodeRule = (context) => {
  const inputs = [context.read(0), scalarOf(context, 1), scalarOf(context, 2)];
  while (inputs.at(-1) === '') inputs.pop();
  if (inputs.length === 1) return [context.input(0)];
  return [computed(context.builder.append1('Clip', inputs))];
};

/** A float base may have an integer exponent. */
export const pow: NodeRule = (context) => {
  const exponent = context.input(1);
  const base = context.read(0);
  const isMixed =
    exponent.kind === 'known' &&
    exponent.tensor.dtype !== 'float32' &&
    context.builder.typeOf(base).dtype === 'float32';
  const power = isMixed
    ? context.write({ ...exponent, key: undefined, tensor: mapType(exponent.tensor, 'float32') })
    : context.read(1);
  return [computed(context.builder.pow(base, power))];
};

/** Before opset 13 all axes from `axis` (default 1) on are taken together. */
export const softmax: NodeRule = (context) => {
  const { builder, node, opset } = context;
  const dims = context.dims(0);
  const axis = intAttribute(node.attributes, 'axis', opset < 13 ? 1 : -1);
  const at = axis < 0 ? axis + dims.length : axis;
  if (opset >= 13 || at === dims.length - 1)
    return [computed(builder.append1(node.op, [context.read(0)], { axis }))];
  if (at < 0 || at >= dims.length)
    throw new NodeProblem('invalid', `names axis ${axis} of rank ${dims.length}`);
  const matrix = builder.reshape(context.read(0), [
    elementCount(dims.slice(0, at)),
    elementCount(dims.slice(at)),
  ]);
  return [computed(builder.reshape(builder.append1(node.op, [matrix], { axis: -1 }), dims))];
};

export const batchNormalization: NodeRule = (context) => {
  const { builder, node } = context;
  if (intAttribute(node.attributes, 'training_mode', 0) !== 0) {
    throw new NodeProblem('unsupported', 'is in training mode');
  }
  const inputs = [0, 1, 2, 3, 4].map((index) => context.read(index));
  return [
    computed(builder.append1('BatchNormalization', inputs, graphAttributes(node.attributes, ['epsilon']))),
  ];
};

/** Opset 18 has one scale and bias per group, opset 21 per channel. */
export const groupNormalization: NodeRule = (context) => {
  const { builder, node, opset } = context;
  const channels = context.dims(0)[1] ?? 0;
  const perChannel = (index: number): string => {
    const value = context.input(index);
    if (opset >= 21) return context.write(value);
    if (value.kind === 'computed') throw new NodeProblem('unsupported', 'has a computed scale');
    return context.write(repeatedTo(value, channels));
  };
  const attributes = graphAttributes(node.attributes, ['epsilon', 'num_groups']);
  return [
    computed(
      builder.append1('GroupNormalization', [context.read(0), perChannel(1), perChannel(2)], attributes),
    ),
  ];
};

/** Each value as often as a group has channels: a parameter of its own, as the file may share one among groups. */
function repeatedTo(value: Known, channels: number): Known {
  const groups = value.tensor.data.length;
  if (groups === 0 || channels % groups !== 0)
    throw new NodeProblem('invalid', 'has groups of different sizes');
  const spread = strided(value.tensor, [groups, channels / groups], [1, 0]);
  const key = value.key === undefined ? undefined : `${value.key}.per_channel_${channels}`;
  return { ...value, key, tensor: { ...spread, dims: [channels] } };
}

export const layerNormalization: NodeRule = (context) => {
  const { builder, node } = context;
  if (node.outputs.slice(1).some((name) => name !== '')) {
    throw new NodeProblem('unsupported', 'outputs its mean and deviation');
  }
  const axis = intAttribute(node.attributes, 'axis', -1);
  const epsilon = { float: floatAttribute(node.attributes, 'epsilon', 1e-5) };
  const inputs = [context.read(0), context.read(1), context.readOptional(2)].filter((name) => name !== '');
  return [computed(builder.append1('LayerNormalization', inputs, { axis, epsilon }))];
};

/**
 * x / √(mean of x² + ε) · scale, over the axes from `axis` on. As one node since opset 23; ONNX Runtime calls it
 * SimplifiedLayerNormalization.
 */
export const rmsNormalization: NodeRule = (context) => {
  const { node } = context;
  if (node.outputs.slice(1).some((name) => name !== '')) {
    throw new NodeProblem('unsupported', 'outputs its mean');
  }
  const axis = intAttribute(node.attributes, 'axis', -1);
  return [
    computed(
      rootMeanSquare(
        context,
        context.read(0),
        context.read(1),
        axis,
        floatAttribute(node.attributes, 'epsilon', 1e-5),
      ),
    ),
  ];
};

export function rootMeanSquare(
  { builder }: NodeContext,
  x: string,
  scale: string,
  axis: number,
  epsilon: number,
): string {
  const rank = builder.dimsOf(x).length;
  const first = axis < 0 ? axis + rank : axis;
  const axes = Array.from({ length: rank - first }, (_, index) => first + index);
  const square = builder.reduceMean(builder.mul(x, x), axes);
  const length = builder.sqrt(builder.add(square, builder.scalar(epsilon)));
  return builder.mul(builder.div(x, length), scale);
}

/** x · sigmoid(alpha · x), of opset 24. */
export const swish: NodeRule = (context) => {
  const { builder, node } = context;
  const x = context.read(0);
  const alpha = floatAttribute(node.attributes, 'alpha', 1);
  const gate = builder.sigmoid(alpha === 1 ? x : builder.mul(x, builder.scalar(alpha)));
  return [computed(builder.mul(x, gate))];
};

/** 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))). Source: Hendrycks and Gimpel 2016. */
export function tanhGelu({ builder }: NodeContext, x: string): string {
  const cube = builder.mul(builder.mul(x, x), x);
  const inner = builder.mul(
    builder.add(x, builder.mul(cube, builder.scalar(0.044715))),
    builder.scalar(Math.sqrt(2 / Math.PI)),
  );
  const gate = builder.add(builder.tanh(inner), builder.scalar(1));
  return builder.mul(builder.mul(x, builder.scalar(0.5)), gate);
}

export const gelu: NodeRule = (context) => {
  const x = context.read(0);
  const approximate = stringAttribute(context.node.attributes, 'approximate', 'none');
  if (approximate === 'tanh') return [computed(tanhGelu(context, x))];
  if (approximate !== 'none') throw new NodeProblem('unsupported', `has an approximation "${approximate}"`);
  return [computed(context.builder.gelu(x))];
};
