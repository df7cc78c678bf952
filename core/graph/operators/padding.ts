/** Padding, also by a tensor's own values. */
import { stringOf } from '../attributes.ts';
import {
  constantNumbers,
  type GradientRule,
  type InferenceRule,
  inputName,
  inputOf,
  knownNumbers,
  mismatch,
  type OperatorRequest,
  type OperatorTable,
  requiredIntegers,
  unsupported,
} from './operator.ts';

const inferPad: InferenceRule = (request) => {
  const { dtype, dims } = inputOf(request, 0);
  const pads = requiredIntegers(request, 1);
  if (stringOf(request.attributes, 'mode', 'constant') !== 'constant') {
    throw mismatch(request, 'only constant padding is one operator');
  }
  if (pads.length !== 2 * dims.length) throw mismatch(request, 'pads need two numbers per axis');
  return [{ dtype, dims: dims.map((size, axis) => size + pads[axis]! + pads[axis + dims.length]!) }];
};

const throughPad: GradientRule = ({ builder, node, gradient }) => {
  const pads = knownNumbers(builder, node.inputs[1])!;
  if (pads.some((size) => size < 0)) {
    const opposite = pads.map((size) => -size);
    return [builder.pad(gradient, opposite)];
  }
  const dims = builder.dimsOf(node.inputs[0]!);
  const starts = pads.slice(0, dims.length);
  const ends = dims.map((size, axis) => starts[axis]! + size);
  return [builder.slice(gradient, starts, ends)];
};

/** Begins and ends of every axis, also when the input `axes` lists only some of them. */
function padsPerAxis(request: OperatorRequest, rank: number): number[] {
  const given = constantNumbers(request, 1) ?? [];
  const axes = constantNumbers(request, 3);
  if (axes === undefined) return given;
  if (given.length !== 2 * axes.length) throw mismatch(request, 'pads and axes differ in number');
  const pads = new Array<number>(2 * rank).fill(0);
  for (const [index, axis] of axes.entries()) {
    const resolved = axis < 0 ? axis + rank : axis;
    if (resolved < 0 || resolved >= rank) throw mismatch(request, `there is no axis ${axis}`);
    pads[resolved] = given[index]!;
    pads[resolved + rank] = given[index + axes.length]!;
  }
  return pads;
}

/** Pad by its own values, and constant Pad of some axes only. */
function patternedPad(request: OperatorRequest): string[] | undefined {
  const { builder, inputs, attributes } = request;
  const x = inputName(request, 0);
  const rank = builder.dimsOf(x).length;
  const mode = stringOf(attributes, 'mode', 'constant');
  if (mode === 'constant' && !inputs[3]) return undefined;
  const pads = padsPerAxis(request, rank);
  if (pads.length !== 2 * rank) throw mismatch(request, 'pads need two numbers per axis');
  if (mode === 'constant') {
    const value = inputs[2] ? [inputs[2]] : [];
    return [builder.append1('Pad', [x, builder.integers(pads), ...value], { mode })];
  }
  if (pads.some((count) => count < 0)) throw unsupported(request, `does not crop in mode "${mode}"`);
  let value = x;
  for (let axis = 0; axis < rank; axis++) {
    value = padAxis(request, value, axis, [pads[axis]!, pads[axis + rank]!], mode);
  }
  return [value === x ? builder.identity(x) : value];
}

/** A slice of an axis. */
type Cut = readonly [start: number, end: number, step: number];

interface Borders {
  /** How many places the mode can fill on either side. */
  readonly reach: number;
  readonly first: Cut;
  readonly last: Cut;
}

/** What a mode puts before and behind an axis of this size; undefined for an unknown mode. */
function bordersOf(mode: string, size: number, before: number, after: number): Borders | undefined {
  switch (mode) {
    case 'edge':
      return {
        reach: size === 0 ? 0 : Number.POSITIVE_INFINITY,
        first: [0, 1, 1],
        last: [size - 1, size, 1],
      };
    case 'reflect':
      return { reach: size - 1, first: [before, 0, -1], last: [size - 2, size - 2 - after - size, -1] };
    case 'wrap':
      return { reach: size, first: [size - before, size, 1], last: [0, after, 1] };
    default:
      return undefined;
  }
}

function padAxis(
  request: OperatorRequest,
  x: string,
  axis: number,
  [before, after]: readonly [number, number],
  mode: string,
): string {
  if (before === 0 && after === 0) return x;
  const { builder } = request;
  const dims = builder.dimsOf(x);
  const borders = bordersOf(mode, dims[axis]!, before, after);
  if (borders === undefined) throw unsupported(request, `has no mode "${mode}"`);
  if (Math.max(before, after) > borders.reach) {
    throw mismatch(request, `mode "${mode}" cannot reach that far`);
  }
  const taken = (count: number, [start, end, step]: Cut) => {
    if (count === 0) return [];
    const cut = builder.slice(x, [start], [end], [axis], step === 1 ? undefined : [step]);
    return [mode === 'edge' ? builder.expand(cut, dims.with(axis, count)) : cut];
  };
  return builder.concat([...taken(before, borders.first), x, ...taken(after, borders.last)], axis);
}

export const paddingOperators: OperatorTable = {
  Pad: { trainable: 'input', infer: inferPad, gradient: throughPad, compose: patternedPad },
};
