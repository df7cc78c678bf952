/** Operators that move values: older forms, and constants that hold the batch size of the file. */
import { elementCount } from '../../shared/tensor.ts';
import { graphAttributes, intAttribute, intsAttribute, NodeProblem, stringAttribute } from './attributes.ts';
import { splitSizes } from './fold-constants.ts';
import { broadcastShape, reshapeDims, resolveAxis } from './fold-layout.ts';
import type { HostTensor } from './host-tensor.ts';
import { computed, type NodeContext, type NodeRule, type Value } from './value.ts';

/** Axes whose size is not that of the reference: those that hold the batch. */
function changedAxes(now: readonly number[], reference: readonly number[] | undefined): number[] {
  if (reference === undefined || reference.length !== now.length) return [];
  return now.flatMap((size, axis) => (size === reference[axis] ? [] : [axis]));
}

/** Whether an input is a constant of the file itself, not computed from the shapes of this writing. */
function isFileConstant(value: Value | undefined): boolean {
  return value?.kind === 'known' && value.key !== undefined;
}

export const reshape: NodeRule = (context) => {
  const from = context.dims(0);
  const wanted = context.integers(1);
  if (wanted === undefined) throw new NodeProblem('invalid', 'has no input 1');
  const allowZero = intAttribute(context.node.attributes, 'allowzero', 0) !== 0;
  const rebatched = context.isRebatched && isFileConstant(context.inputs[1]);
  const dims = (rebatched ? rebatchedDims(context, from) : undefined) ?? reshapeDims(from, wanted, allowZero);
  return [computed(context.builder.reshape(context.read(0), dims))];
};

/**
 * The reference's output shape with the batch scaled in the axis that holds it. Values are laid out row by row, so
 * that is the axis with as many values before it as the input's batch axis has.
 */
function rebatchedDims(context: NodeContext, from: readonly number[]): number[] | undefined {
  const oldFrom = context.referenceDims(0);
  const oldTo = context.reference?.dims.get(context.node.outputs[0] ?? '');
  if (oldFrom === undefined || oldTo === undefined) return undefined;
  const changed = changedAxes(from, oldFrom);
  if (changed.length === 0) return [...oldTo];
  const [axis] = changed;
  if (changed.length > 1) throw new NodeProblem('unsupported', 'has the batch in more than one axis');
  const before = elementCount(oldFrom.slice(0, axis));
  const candidates = [axis!, ...oldTo.keys()].filter(
    (at) => at < oldTo.length && elementCount(oldTo.slice(0, at)) === before,
  );
  for (const at of candidates) {
    const dims = oldTo.map((size, index) => (index === at ? (size * from[axis!]!) / oldFrom[axis!]! : size));
    if (dims.every(Number.isInteger) && elementCount(dims) === elementCount(from)) return dims;
  }
  throw new NodeProblem('unsupported', 'mixes the images of a batch of fixed size');
}

export const expand: NodeRule = (context) => {
  const from = context.dims(0);
  const wanted = context.integers(1);
  if (wanted === undefined) throw new NodeProblem('invalid', 'has no input 1');
  const changed = context.isRebatched ? changedAxes(from, context.referenceDims(0)) : [];
  const rank = Math.max(wanted.length, from.length);
  const target = Array.from({ length: rank }, (_, axis) => {
    const own = axis - rank + from.length;
    // A size that the file fixed to its own batch follows the input.
    if (changed.includes(own)) return from[own]!;
    return wanted[axis - rank + wanted.length] ?? 1;
  });
  const dims = broadcastShape(from, target);
  if (dims.join() === from.join()) return [context.input(0)];
  return [computed(context.builder.expand(context.read(0), dims))];
};

export const concat: NodeRule = (context) => {
  const { node, builder } = context;
  const shapes = node.inputs.map((_, index) => context.dims(index));
  const axis = resolveAxis(intAttribute(node.attributes, 'axis', 0), shapes[0]?.length ?? 0);
  const names = node.inputs.map((_, index) => context.read(index));
  if (context.isRebatched) {
    for (const [index, dims] of shapes.entries()) {
      for (const at of changedAxes(dims, context.referenceDims(index))) {
        if (at !== axis) spreadConstants(context, names, at, dims[at]!);
      }
    }
  }
  return [computed(names.length === 1 ? names[0]! : builder.concat(names, axis))];
};

/** Parts that are the same for every image, such as a class token, were written for the file's batch of one. */
function spreadConstants(context: NodeContext, names: string[], axis: number, batch: number): void {
  for (const [index, name] of names.entries()) {
    const dims = context.builder.dimsOf(name);
    if (dims[axis] !== 1 || batch === 1) continue;
    names[index] = context.builder.expand(
      name,
      dims.map((size, at) => (at === axis ? batch : size)),
    );
  }
}

/** Axes as an attribute (older opsets) or as an input. */
function axesOf(context: NodeContext, index = 1): number[] | undefined {
  return context.integers(index) ?? intsAttribute(context.node.attributes, 'axes');
}

export const squeeze: NodeRule = (context) => {
  // Without axes all of size 1 go; at a batch of one that must not be the batch.
  const measured = context.referenceDims(0) ?? context.dims(0);
  const axes = axesOf(context) ?? measured.flatMap((size, axis) => (size === 1 ? [axis] : []));
  if (axes.length === 0) return [context.input(0)];
  return [computed(context.builder.squeeze(context.read(0), axes))];
};

export const unsqueeze: NodeRule = (context) => {
  const axes = axesOf(context);
  if (axes === undefined) throw new NodeProblem('invalid', 'names no axes');
  return [computed(context.builder.unsqueeze(context.read(0), axes))];
};

export const reduction: NodeRule = (context) => {
  const { attributes, op } = context.node;
  const axes = axesOf(context) ?? [];
  if (axes.length === 0 && intAttribute(attributes, 'noop_with_empty_axes', 0) !== 0)
    return [context.input(0)];
  const all = axes.length > 0 ? axes : [...context.dims(0).keys()];
  const keepdims = intAttribute(attributes, 'keepdims', 1) !== 0 ? 1 : 0;
  const inputs = [context.read(0), context.builder.integers(all)];
  return [computed(context.builder.append1(op, inputs, { keepdims }))];
};

export const slice: NodeRule = (context) => {
  const dims = context.dims(0);
  const starts = context.integers(1);
  const ends = context.integers(2);
  if (starts === undefined || ends === undefined) throw new NodeProblem('invalid', 'has no starts or ends');
  const axes = (context.integers(3) ?? [...starts.keys()]).map((axis) => resolveAxis(axis, dims.length));
  const steps = context.integers(4) ?? starts.map(() => 1);
  const oldTo = context.reference?.dims.get(context.node.outputs[0] ?? '');
  const whole = new Set(
    changedAxes(dims, context.referenceDims(0)).filter(
      (axis) => context.isRebatched && oldTo?.[axis] === context.referenceDims(0)?.[axis],
    ),
  );
  const kept = axes.flatMap((axis, index) => (whole.has(axis) ? [] : [index]));
  if (kept.length === 0) return [context.input(0)];
  const pick = (values: readonly number[]) => kept.map((index) => values[index] ?? Number.NaN);
  const cut = context.builder.slice(context.read(0), pick(starts), pick(ends), pick(axes), pick(steps));
  return [computed(cut)];
};

export const split: NodeRule = (context) => {
  const dims = context.dims(0);
  const axis = resolveAxis(intAttribute(context.node.attributes, 'axis', 0), dims.length);
  const inputs: (HostTensor | undefined)[] = [undefined, context.known(1)];
  const sizes = splitSizes({ node: context.node, inputs }, dims[axis]!);
  return context.builder.split(context.read(0), sizes, axis).map(computed);
};

export const pad: NodeRule = (context) => {
  const { builder, node } = context;
  const mode = stringAttribute(node.attributes, 'mode', 'constant');
  const pads = context.integers(1);
  if (pads === undefined) throw new NodeProblem('invalid', 'has no pads');
  const value = Number(context.known(2)?.data[0] ?? 0);
  const axes = context.integers(3);
  const inputs = [context.read(0), builder.integers(pads)];
  if (value !== 0 || axes !== undefined) inputs.push(value === 0 ? '' : builder.scalar(value));
  if (axes !== undefined) inputs.push(builder.integers(axes));
  return [computed(builder.append1('Pad', inputs, { mode }))];
};

export const flatten: NodeRule = (context) => {
  const axis = intAttribute(context.node.attributes, 'axis', 1);
  return [computed(context.builder.flatten(context.read(0), axis))];
};

export const transpose: NodeRule = (context) => {
  const { builder } = context;
  const rank = context.dims(0).length;
  const perm = intsAttribute(context.node.attributes, 'perm') ?? [...Array(rank).keys()].reverse();
  const x = context.read(0);
  const before = builder.nodes.at(-1);
  const isRotated = before?.op === 'Transpose' && before.outputs[0] === x;
  const inner = isRotated ? before.attributes['perm'] : undefined;
  // Files in NHWC order turn our image back at once.
  if (Array.isArray(inner) && perm.every((axis, index) => Number(inner[axis]) === index)) {
    return [computed(before!.inputs[0]!)];
  }
  return [computed(builder.transpose(x, perm))];
};

export const gather: NodeRule = (context) => {
  const indices = context.write(context.input(1));
  const axis = intAttribute(context.node.attributes, 'axis', 0);
  return [computed(context.builder.gather(context.read(0), indices, axis))];
};

export const resize: NodeRule = (context) => {
  const { attributes } = context.node;
  const scales = context.known(2);
  const sizes = context.known(3);
  // The region of interest counts for crops only, which GraphBuilder refuses.
  const inputs = [context.read(0), '', scales !== undefined && scales.data.length > 0 ? context.read(2) : ''];
  if (sizes !== undefined && sizes.data.length > 0) inputs.push(context.builder.integers(resizedTo(context)));
  const kept = [
    ...['coordinate_transformation_mode', 'mode', 'nearest_mode', 'axes', 'keep_aspect_ratio_policy'],
    ...['antialias', 'cubic_coeff_a', 'exclude_outside'],
  ];
  return [computed(context.builder.append1('Resize', inputs, graphAttributes(attributes, kept)))];
};

/** Sizes with the batch of this writing. */
function resizedTo(context: NodeContext): number[] {
  const sizes = context.integers(3)!;
  const changed = context.isRebatched ? changedAxes(context.dims(0), context.referenceDims(0)) : [];
  const listed = intsAttribute(context.node.attributes, 'axes') ?? [...sizes.keys()];
  return sizes.map((size, index) =>
    changed.includes(listed[index]!) ? context.dims(0)[listed[index]!]! : size,
  );
}
