/** Operators that only move or repeat values. */
import { integerOf, stringOf } from '../attributes.ts';
import { repeatWhole } from '../repeat.ts';
import { type CompositeRequest, constantNumbers, inputName, unfit, unsupported } from './composite-rule.ts';

/** Sizes of an image [batch, channels, height, width] and the block size. */
function blocksOf(request: CompositeRequest): [number, number, number, number, number] {
  const dims = request.builder.dimsOf(inputName(request, 0));
  const block = integerOf(request.attributes, 'blocksize', 0);
  if (dims.length !== 4 || block < 1) throw unfit(request, `rank 4 and a block size are needed`);
  return [...(dims as [number, number, number, number]), block];
}

export function depthToSpace(request: CompositeRequest): string[] {
  const { builder, attributes } = request;
  const [batch, channels, height, width, block] = blocksOf(request);
  if (channels % (block * block) !== 0) throw unfit(request, `${channels} channels do not fill the blocks`);
  const depth = channels / (block * block);
  const columnFirst = stringOf(attributes, 'mode', 'DCR') === 'CRD';
  const split = columnFirst
    ? builder.reshape(request.inputs[0]!, [batch, depth, block, block, height, width])
    : builder.reshape(request.inputs[0]!, [batch, block, block, depth, height, width]);
  const moved = builder.transpose(split, columnFirst ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2]);
  return [builder.reshape(moved, [batch, depth, height * block, width * block])];
}

export function spaceToDepth(request: CompositeRequest): string[] {
  const { builder } = request;
  const [batch, channels, height, width, block] = blocksOf(request);
  if (height % block !== 0 || width % block !== 0) throw unfit(request, `blocks of ${block} do not fit`);
  const [rows, columns] = [height / block, width / block];
  const split = builder.reshape(request.inputs[0]!, [batch, channels, rows, block, columns, block]);
  const moved = builder.transpose(split, [0, 3, 5, 1, 2, 4]);
  return [builder.reshape(moved, [batch, channels * block * block, rows, columns])];
}

export function tile(request: CompositeRequest): string[] {
  const { builder } = request;
  const x = inputName(request, 0);
  const repeats = constantNumbers(request, 1) ?? [];
  if (repeats.length !== builder.dimsOf(x).length || repeats.some((count) => count < 1)) {
    throw unfit(request, 'it needs one positive repeat per axis');
  }
  return [repeats.every((count) => count === 1) ? builder.identity(x) : repeatWhole(builder, x, repeats)];
}

/** Split without sizes: even pieces, the last one smaller, as opset 18 has it. */
export function plainSplit(request: CompositeRequest): string[] | undefined {
  const { builder, inputs, attributes, outputCount } = request;
  if (inputs[1]) return undefined;
  const x = inputName(request, 0);
  const axis = integerOf(attributes, 'axis', 0);
  const size = builder.dimsOf(x).at(axis);
  if (size === undefined) throw unfit(request, `there is no axis ${axis}`);
  const even = Math.ceil(size / outputCount);
  const sizes = Array.from({ length: outputCount }, (_, index) => Math.min(even, size - index * even));
  if (sizes.some((piece) => piece < 0)) throw unfit(request, `it does not make ${outputCount} pieces`);
  return builder.append('Split', [x, builder.integers(sizes)], { axis }, outputCount);
}

/** Begins and ends of every axis, also when the input `axes` lists only some of them. */
function padsPerAxis(request: CompositeRequest, rank: number): number[] {
  const given = constantNumbers(request, 1) ?? [];
  const axes = constantNumbers(request, 3);
  if (axes === undefined) return given;
  if (given.length !== 2 * axes.length) throw unfit(request, 'pads and axes differ in number');
  const pads = new Array<number>(2 * rank).fill(0);
  for (const [index, axis] of axes.entries()) {
    const resolved = axis < 0 ? axis + rank : axis;
    if (resolved < 0 || resolved >= rank) throw unfit(request, `there is no axis ${axis}`);
    pads[resolved] = given[index]!;
    pads[resolved + rank] = given[index + axes.length]!;
  }
  return pads;
}

/** Pad by its own values, and constant Pad of some axes only. */
export function patternedPad(request: CompositeRequest): string[] | undefined {
  const { builder, inputs, attributes } = request;
  const x = inputName(request, 0);
  const rank = builder.dimsOf(x).length;
  const mode = stringOf(attributes, 'mode', 'constant');
  if (mode === 'constant' && !inputs[3]) return undefined;
  const pads = padsPerAxis(request, rank);
  if (pads.length !== 2 * rank) throw unfit(request, 'pads need two numbers per axis');
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
  request: CompositeRequest,
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
  if (Math.max(before, after) > reach) throw unfit(request, `mode "${mode}" cannot reach that far`);
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
