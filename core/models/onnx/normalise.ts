/**
 * How each operator of a file is written in our graph: opset 20 words, static shapes.
 * Source of the operators' meaning in each opset: https://onnx.ai/onnx/operators/
 */
import { reductionOperators } from '../../graph/operators/reduction.ts';
import { operators } from '../../graph/operators.ts';
import { graphAttributes, NodeProblem } from './attributes.ts';
import { canFold } from './fold-constants.ts';
import { attention } from './normalise-attention.ts';
import {
  concat,
  expand,
  flatten,
  gather,
  pad,
  reduction,
  reshape,
  resize,
  slice,
  split,
  squeeze,
  transpose,
  unsqueeze,
} from './normalise-layout.ts';
import { microsoftRules } from './normalise-microsoft.ts';
import {
  batchNormalization,
  cast,
  castLike,
  clip,
  dropout,
  gelu,
  groupNormalization,
  identity,
  layerNormalization,
  pow,
  rmsNormalization,
  softmax,
  swish,
} from './normalise-norm.ts';
import { dequantize, quantize } from './normalise-quantised.ts';
import { conv, convTranspose, pool } from './normalise-window.ts';
import type { FileNode } from './onnx-file.ts';
import { computed, type NodeRule } from './value.ts';

/** Takes over an operator that means the same from opset 11 to 24. */
const plain: NodeRule = (context) => {
  const { node, builder } = context;
  const inputs = node.inputs.map((_, index) => context.readOptional(index));
  while (inputs.at(-1) === '') inputs.pop();
  const attributes = graphAttributes(node.attributes, operators.get(node.op)!.fileAttributes!);
  return [computed(builder.append1(node.op, inputs, attributes))];
};

const unchanged = [...operators].filter(([, { fileAttributes }]) => fileAttributes !== undefined);

const rules: Readonly<Record<string, NodeRule>> = {
  ...Object.fromEntries(unchanged.map(([op]) => [op, plain])),
  ...Object.fromEntries(Object.keys(reductionOperators).map((op) => [op, reduction])),
  Identity: identity,
  Dropout: dropout,
  Cast: cast,
  CastLike: castLike,
  Clip: clip,
  Pow: pow,
  Softmax: softmax,
  LogSoftmax: softmax,
  Gelu: gelu,
  BatchNormalization: batchNormalization,
  GroupNormalization: groupNormalization,
  LayerNormalization: layerNormalization,
  Conv: conv,
  ConvTranspose: convTranspose,
  MaxPool: pool,
  AveragePool: pool,
  Reshape: reshape,
  Expand: expand,
  Concat: concat,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Slice: slice,
  Split: split,
  Pad: pad,
  Flatten: flatten,
  Transpose: transpose,
  Gather: gather,
  Resize: resize,
  Attention: attention,
  RMSNormalization: rmsNormalization,
  SimplifiedLayerNormalization: rmsNormalization,
  Swish: swish,
  QuantizeLinear: quantize,
  DequantizeLinear: dequantize,
};

/** Written without a node of the same name. */
const dissolved = new Set([
  ...[
    'Identity',
    'Dropout',
    'CastLike',
    'Attention',
    'RMSNormalization',
    'SimplifiedLayerNormalization',
    'Swish',
  ],
  ...['QuantizeLinear', 'DequantizeLinear'],
]);

function ruleFor({ op, domain }: FileNode): NodeRule | undefined {
  const table = domain === '' ? rules : domain === 'com.microsoft' ? microsoftRules : {};
  if (!Object.hasOwn(table, op)) return undefined;
  const isKnown = domain !== '' || dissolved.has(op) || operators.has(op);
  return isKnown ? table[op] : undefined;
}

/** Whether {@link normalisationRule} knows the operator. */
export function hasRule(node: FileNode): boolean {
  return ruleFor(node) !== undefined;
}

/** Whether a node of the image's values can be part of a network: others are computed, whatever they are. */
export function isReadable(node: FileNode): boolean {
  return ruleFor(node) !== undefined || canFold(node) || (node.domain === '' && node.op === 'If');
}

/** @throws NodeProblem when no rule writes this operator */
export function normalisationRule(node: FileNode): NodeRule {
  const rule = ruleFor(node);
  if (rule !== undefined) return rule;
  throw new NodeProblem('unsupported', canFold(node) ? 'works on values that depend on the image' : '');
}
