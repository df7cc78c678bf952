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
  const size = dims[axis]!;
  const reach = { reflect: size - 1, wrap: size, edge: size === 0 ? 0 : Number.MAX_SAFE_INTEGER }[mode];
  if (reach === undefined) throw unsupported(request, `has no mode "${mode}"`);
  if (Math.max(before, after) > reach) throw mismatch(request, `mode "${mode}" cannot reach that far`);
  const repeated = (index: number, count: number) =>
    builder.expand(
      builder.slice(x, [index], [index + 1], [axis]),
      dims.map((length, a) => (a === axis ? count : length)),
    );
  const pieces: Record<string, () => [string, string]> = {
    // A piece of no length is never asked for, see below.
    edge: () => [before > 0 ? repeated(0, before) : '', after > 0 ? repeated(size - 1, after) : ''],
    reflect: () => [
      before > 0 ? builder.slice(x, [before], [0], [axis], [-1]) : '',
      after > 0 ? builder.slice(x, [size - 2], [size - 2 - after - size], [axis], [-1]) : '',
    ],
    wrap: () => [
      before > 0 ? builder.slice(x, [size - before], [size], [axis]) : '',
      after > 0 ? builder.slice(x, [0], [after], [axis]) : '',
    ],
  };
  const [first, last] = pieces[mode]!();
  return builder.concat(
    [first, x, last].filter((piece) => piece !== ''),
    axis,
  );
}

export const paddingOperators: OperatorTable = {
  Pad: { trainable: 'input', infer: inferPad, gradient: throughPad, compose: patternedPad },
};
