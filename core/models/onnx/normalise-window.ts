/** Convolution and pooling: automatic padding and rounded-up sizes become plain pads. */
import type { Attribute } from '../../graph/graph.ts';
import { plural } from '../../shared/text.ts';
import { graphAttributes, intAttribute, intsAttribute, NodeProblem, stringAttribute } from './attributes.ts';
import type { FileNode } from './onnx-file.ts';
import { computed, type NodeContext, type NodeRule, type Value } from './value.ts';

interface Window {
  /** Sizes of the input image. */
  readonly spatial: readonly number[];
  readonly strides: readonly number[];
  /** Extents of the dilated kernel. */
  readonly reach: readonly number[];
  /** All begins, then all ends. */
  readonly pads: readonly number[];
}

/** @throws NodeProblem for what makes no window */
function windowOf({ node }: NodeContext, dims: readonly number[], kernel: readonly number[]): Window {
  const { attributes } = node;
  const spatial = dims.slice(2);
  if (dims.length !== 4 || kernel.length !== 2) {
    throw new NodeProblem(
      'unsupported',
      `has windows of ${plural(Math.max(0, dims.length - 2), 'dimension')} instead of 2`,
    );
  }
  const strides = intsAttribute(attributes, 'strides') ?? spatial.map(() => 1);
  const dilations = intsAttribute(attributes, 'dilations') ?? spatial.map(() => 1);
  const pads = intsAttribute(attributes, 'pads') ?? [0, 0, 0, 0];
  const fits = strides.length === 2 && dilations.length === 2 && pads.length === 4;
  if (!fits || [...kernel, ...strides, ...dilations].some((size) => size < 1)) {
    throw new NodeProblem('invalid', 'has a kernel, strides, pads and dilations that make no window');
  }
  return { spatial, strides, reach: kernel.map((size, axis) => dilations[axis]! * (size - 1) + 1), pads };
}

/** Half of the total before and behind; the odd one behind for SAME_UPPER. */
function shared(totals: readonly number[], upper: boolean): number[] {
  const small = totals.map((total) => Math.floor(total / 2));
  const large = totals.map((total) => Math.ceil(total / 2));
  return upper ? [...small, ...large] : [...large, ...small];
}

/** Pads that a convolution or pooling really uses. */
function resolvedPads(context: NodeContext, window: Window): readonly number[] {
  const mode = stringAttribute(context.node.attributes, 'auto_pad', 'NOTSET');
  if (mode === 'NOTSET') return window.pads;
  if (mode === 'VALID') return [0, 0, 0, 0];
  if (mode !== 'SAME_UPPER' && mode !== 'SAME_LOWER') {
    throw new NodeProblem('invalid', `has an unknown auto_pad "${mode}"`);
  }
  const totals = window.spatial.map((size, axis) => {
    const out = Math.ceil(size / window.strides[axis]!);
    return Math.max(0, (out - 1) * window.strides[axis]! + window.reach[axis]! - size);
  });
  return shared(totals, mode === 'SAME_UPPER');
}

/**
 * A rule for images, also for sequences [batch, channels, length]: those become images of one row, as do their windows and
 * weights.
 */
function alsoOfRows(rule: NodeRule): NodeRule {
  return (context) => {
    if (context.dims(0).length !== 3) return rule(context);
    const { builder, node } = context;
    const [batch = 0, channels = 0, length = 0] = context.dims(0);
    const image = computed(builder.reshape(context.read(0), [batch, channels, 1, length]));
    const [, weight, ...rest] = context.inputs;
    const inputs = [image, weight === undefined ? undefined : asImage(context, weight), ...rest];
    const [result] = rule(context.with({ ...node, attributes: withRows(node.attributes) }, inputs));
    const [, out = 0, , width = 0] = context.dimsOf(result!);
    return [computed(builder.reshape(context.write(result!), [batch, out, width]))];
  };
}

/** A weight [out, in, size] as [out, in, 1, size], under a name of its own. */
function asImage(context: NodeContext, weight: Value): Value {
  const dims = context.dimsOf(weight);
  if (dims.length !== 3) return weight;
  const wide = [dims[0]!, dims[1]!, 1, dims[2]!];
  if (weight.kind === 'computed') return computed(context.builder.reshape(weight.name, wide));
  const key = weight.key === undefined ? undefined : `${weight.key}.of_rows`;
  return { ...weight, key, tensor: { ...weight.tensor, dims: wide } };
}

function withRows(attributes: FileNode['attributes']): FileNode['attributes'] {
  const changed = new Map(attributes);
  const widen = (name: string, change: (values: readonly bigint[]) => bigint[]) => {
    const found = attributes.get(name);
    if (found?.kind === 'ints') changed.set(name, { kind: 'ints', value: change(found.value) });
  };
  for (const name of ['kernel_shape', 'strides', 'dilations']) widen(name, ([size = 1n]) => [1n, size]);
  for (const name of ['output_padding', 'output_shape'])
    widen(name, (values) => [name === 'output_shape' ? 1n : 0n, values.at(-1) ?? 0n]);
  widen('pads', ([before = 0n, after = 0n]) => [0n, before, 0n, after]);
  return changed;
}

const imageConv: NodeRule = (context) => {
  const window = windowOf(context, context.dims(0), context.dims(1).slice(2));
  const attributes = {
    ...graphAttributes(context.node.attributes, ['strides', 'dilations', 'group']),
    pads: resolvedPads(context, window),
  };
  const inputs = [context.read(0), context.read(1), context.readOptional(2)].filter((name) => name !== '');
  return [computed(context.builder.append1('Conv', inputs, attributes))];
};

const imageConvTranspose: NodeRule = (context) => {
  const { attributes } = context.node;
  const window = windowOf(context, context.dims(0), context.dims(1).slice(2));
  const extra = intsAttribute(attributes, 'output_padding') ?? [0, 0];
  const written: Record<string, Attribute> = {
    ...graphAttributes(attributes, ['strides', 'dilations', 'group', 'output_padding']),
    pads: transposePads(context, window, extra),
  };
  const inputs = [context.read(0), context.read(1), context.readOptional(2)].filter((name) => name !== '');
  return [computed(context.builder.append1('ConvTranspose', inputs, written))];
};

/** The operator page's formula: what the full output has beyond the wanted one is cut off. */
function transposePads(
  { node }: NodeContext,
  { spatial, strides, reach, pads }: Window,
  extra: readonly number[],
): readonly number[] {
  const mode = stringAttribute(node.attributes, 'auto_pad', 'NOTSET');
  const shape = intsAttribute(node.attributes, 'output_shape')?.slice(-2);
  if (mode === 'VALID' && shape === undefined) return [0, 0, 0, 0];
  if (mode === 'NOTSET' && shape === undefined) return pads;
  const totals = spatial.map((size, axis) => {
    const wanted = shape?.[axis] ?? size * strides[axis]!;
    return strides[axis]! * (size - 1) + (extra[axis] ?? 0) + reach[axis]! - wanted;
  });
  if (totals.some((total) => total < 0)) {
    throw new NodeProblem('unsupported', 'asks for an output larger than its windows reach');
  }
  return shared(totals, mode === 'SAME_UPPER');
}

const imagePool: NodeRule = (context) => {
  const { attributes, op, outputs } = context.node;
  if (outputs.slice(1).some((name) => name !== '')) {
    throw new NodeProblem('unsupported', 'outputs the indices of the largest values');
  }
  const kernel = intsAttribute(attributes, 'kernel_shape') ?? [];
  const window = windowOf(context, context.dims(0), kernel);
  const countPads = op === 'AveragePool' && intAttribute(attributes, 'count_include_pad', 0) !== 0;
  const pads = roundedUpPads(context, { ...window, pads: resolvedPads(context, window) }, kernel, countPads);
  const written: Record<string, Attribute> = {
    kernel_shape: kernel,
    ...graphAttributes(attributes, ['strides', 'dilations']),
    pads,
  };
  if (countPads) written['count_include_pad'] = 1;
  return [computed(context.builder.append1(op, [context.read(0)], written))];
};

/**
 * `ceil_mode` as padding behind: the last window then fits. Padding counts for nothing in a maximum, and in an
 * average only with count_include_pad, where the places beyond the given pads would have to be left out.
 */
function roundedUpPads(
  { node }: NodeContext,
  { spatial, strides, reach, pads }: Window,
  kernel: readonly number[],
  countPads: boolean,
): readonly number[] {
  if (intAttribute(node.attributes, 'ceil_mode', 0) === 0) return pads;
  const result = [...pads];
  for (const [axis, size] of spatial.entries()) {
    const stride = strides[axis]!;
    const padded = size + pads[axis]! + pads[axis + 2]!;
    let windows = Math.ceil((padded - reach[axis]!) / stride) + 1;
    // A window that would begin behind the image is left out.
    if ((windows - 1) * stride >= size + pads[axis]!) windows--;
    const lacking = (windows - 1) * stride + reach[axis]! - padded;
    if (lacking <= 0) continue;
    if (countPads) throw new NodeProblem('unsupported', 'combines ceil_mode with count_include_pad');
    result[axis + 2] = pads[axis + 2]! + lacking;
    if (result[axis + 2]! >= kernel[axis]!) {
      throw new NodeProblem('unsupported', 'has a window that ceil_mode pushes off the image');
    }
  }
  return result;
}

export const conv = alsoOfRows(imageConv);
export const convTranspose = alsoOfRows(imageConvTranspose);
export const pool = alsoOfRows(imagePool);
