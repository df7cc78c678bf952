/**
 * Attention as one node, written out: of ONNX (opset 23) and of ONNX Runtime's optimiser.
 * Sources: https://onnx.ai/onnx/operators/onnx__Attention.html,
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
 */
import { floatAttribute, intAttribute, intsAttribute, NodeProblem } from './attributes.ts';
import { computed, type NodeContext, type NodeRule } from './value.ts';

/** [batch, tokens, heads · size] to [batch, heads, tokens, size]. */
function byHead({ builder }: NodeContext, x: string, heads: number): string {
  const [batch = 0, tokens = 0, width = 0] = builder.dimsOf(x);
  if (builder.dimsOf(x).length !== 3 || width % heads !== 0) {
    throw new NodeProblem('invalid', `does not share ${width} values among ${heads} heads`);
  }
  return builder.transpose(builder.reshape(x, [batch, tokens, heads, width / heads]), [0, 2, 1, 3]);
}

/** [batch, heads, tokens, size] to [batch, tokens, heads · size]. */
function joined({ builder }: NodeContext, x: string): string {
  const [batch = 0, heads = 0, tokens = 0, size = 0] = builder.dimsOf(x);
  return builder.reshape(builder.transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * size]);
}

interface Mixing {
  readonly scale: number;
  /** Added to the scores; broadcast to [batch, heads, queries, keys]. */
  readonly bias?: string;
  /** Scores are pressed into ±cap by a tanh; 0: not. */
  readonly cap?: number;
}

/** softmax(scale · q·kᵀ + bias)·v of [batch, heads, tokens, size] each. */
function mixed(
  { builder }: NodeContext,
  [q, k, v]: readonly string[],
  { scale, bias, cap = 0 }: Mixing,
): string {
  const scaled = scale === 1 ? q! : builder.mul(q!, builder.scalar(scale));
  let scores = builder.matMul(scaled, builder.transpose(k!, [0, 1, 3, 2]));
  if (cap !== 0) {
    const pressed = builder.tanh(builder.mul(scores, builder.scalar(1 / cap)));
    scores = builder.mul(pressed, builder.scalar(cap));
  }
  if (bias !== undefined) scores = builder.add(scores, bias);
  return builder.matMul(builder.softmax(scores), v!);
}

function refuseOthers({ node, inputs }: NodeContext, indices: readonly number[], outputs: number): void {
  const present = indices.find((index) => inputs[index] !== undefined);
  if (present !== undefined)
    throw new NodeProblem('unsupported', `has an input ${present}, a mask or a past`);
  if (node.outputs.slice(outputs).some((name) => name !== ''))
    throw new NodeProblem('unsupported', 'outputs more than its result');
}

/** A mask that is added; a bool one lets through what is true. */
function additiveMask(context: NodeContext, index: number): string | undefined {
  const { builder, inputs } = context;
  if (inputs[index] === undefined) return undefined;
  const mask = context.read(index);
  if (builder.typeOf(mask).dtype !== 'bool') return mask;
  return builder.where(mask, builder.scalar(0), builder.scalar(-1e30));
}

/** Of opset 23 and 24: inputs with three axes have the heads in the last, those with four an axis of their own. */
export const attention: NodeRule = (context) => {
  const { builder, node } = context;
  const { attributes } = node;
  refuseOthers(context, [4, 5, 6], 1);
  if (intAttribute(attributes, 'is_causal', 0) !== 0) throw new NodeProblem('unsupported', 'is causal');
  const isFlat = context.dims(0).length === 3;
  const queryHeads = isFlat ? intAttribute(attributes, 'q_num_heads', 0) : context.dims(0)[1]!;
  const keyHeads = isFlat ? intAttribute(attributes, 'kv_num_heads', 0) : context.dims(1)[1]!;
  if (queryHeads < 1 || keyHeads < 1) throw new NodeProblem('invalid', 'says no number of heads');
  if (queryHeads !== keyHeads) throw new NodeProblem('unsupported', 'shares keys among several heads');
  const heads = [0, 1, 2].map((index) =>
    isFlat ? byHead(context, context.read(index), queryHeads) : context.read(index),
  );
  const size = builder.dimsOf(heads[0]!).at(-1)!;
  const bias = additiveMask(context, 3);
  const result = mixed(context, heads, {
    scale: floatAttribute(attributes, 'scale', 1 / Math.sqrt(size)),
    cap: floatAttribute(attributes, 'softcap', 0),
    ...(bias === undefined ? {} : { bias }),
  });
  return [computed(isFlat ? joined(context, result) : result)];
};

/** com.microsoft: query, key, value [batch, tokens, width], a bias for all three, and a bias of the scores as sixth input. */
export const multiHeadAttention: NodeRule = (context) => {
  const { builder, node } = context;
  refuseOthers(context, [4, 6, 7], 1);
  if (intAttribute(node.attributes, 'unidirectional', 0) !== 0)
    throw new NodeProblem('unsupported', 'is causal');
  const heads = intAttribute(node.attributes, 'num_heads', 0);
  if (heads < 1) throw new NodeProblem('invalid', 'says no number of heads');
  if (context.inputs[1] === undefined || context.inputs[2] === undefined || context.dims(1).length !== 3)
    throw new NodeProblem('unsupported', 'takes query, key and value packed together');
  const parts = [0, 1, 2].map((index) => context.read(index));
  const widths = parts.map((part) => builder.dimsOf(part).at(-1)!);
  const biases = context.inputs[3] === undefined ? undefined : builder.split(context.read(3), widths, 0);
  const projected = parts.map((part, index) =>
    byHead(context, biases === undefined ? part : builder.add(part, biases[index]!), heads),
  );
  const bias = additiveMask(context, 5);
  const scale = floatAttribute(node.attributes, 'scale', 0) || 1 / Math.sqrt(widths[0]! / heads);
  return [
    computed(joined(context, mixed(context, projected, { scale, ...(bias === undefined ? {} : { bias }) }))),
  ];
};

/** com.microsoft: projects one input by weights [width, q + k + v] itself. */
export const packedAttention: NodeRule = (context) => {
  const { builder, node } = context;
  refuseOthers(context, [3, 4, 6], 1);
  if (intAttribute(node.attributes, 'unidirectional', 0) !== 0)
    throw new NodeProblem('unsupported', 'is causal');
  const heads = intAttribute(node.attributes, 'num_heads', 0);
  if (heads < 1) throw new NodeProblem('invalid', 'says no number of heads');
  const product = builder.matMul(context.read(0), context.read(1));
  const bias = context.readOptional(2);
  const whole = bias === '' ? product : builder.add(product, bias);
  const width = builder.dimsOf(whole).at(-1)!;
  const sizes = intsAttribute(node.attributes, 'qkv_hidden_sizes') ?? [width / 3, width / 3, width / 3];
  const parts = builder.split(whole, sizes, 2).map((part) => byHead(context, part, heads));
  const scores = additiveMask(context, 5);
  const scale = floatAttribute(node.attributes, 'scale', 0) || 1 / Math.sqrt(sizes[0]! / heads);
  return [
    computed(
      joined(context, mixed(context, parts, { scale, ...(scores === undefined ? {} : { bias: scores }) })),
    ),
  ];
};
