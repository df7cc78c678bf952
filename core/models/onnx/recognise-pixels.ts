/**
 * What the first nodes of a network do to its pixels: files that normalise inside must get pixels as they are. Followed are
 * the nodes that change each channel by itself (arithmetic with constants, BatchNormalization, casts, pointwise convolutions)
 * or move channels; the first other node ends it.
 */
import { intAttribute, intsAttribute, NodeProblem } from './attributes.ts';
import { type HostTensor, isFloat, numbersOf } from './host-tensor.ts';
import type { Network } from './network.ts';
import type { FileNode } from './onnx-file.ts';
import { createStaticValues, type StaticValues } from './static-values.ts';

/** How the file takes its pixels, and what it makes of them. */
export interface RecognisedPixels {
  /** Largest value of a pixel that the file takes; undefined when what it does fits no usual range. */
  readonly range: 1 | 255 | undefined;
  /** Of red, green and blue as the file takes them, in that range: it computes (pixel − mean) / deviation. */
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
  /** Order of the channels that the file takes, where its means tell. */
  readonly channelOrder: 'rgb' | 'bgr' | undefined;
  /** Operators that do it, in order. */
  readonly operators: readonly string[];
}

/** One channel: `factor` · (channel `source` of the input) + `offset`. */
interface Channel {
  readonly source: number;
  readonly factor: number;
  readonly offset: number;
}

interface Pixels {
  readonly channels: readonly Channel[];
  /** Axis that holds them. */
  readonly axis: number;
}

interface Walk {
  readonly known: StaticValues;
  readonly pixels: Map<string, Pixels>;
}

type Step = (node: FileNode, walk: Walk) => Pixels[] | undefined;

/** @returns undefined when the file does nothing to its pixels before it computes with them */
export function recognisePixels(network: Network, channelsLast: boolean): RecognisedPixels | undefined {
  const start: Pixels = {
    channels: [0, 1, 2].map((source) => ({ source, factor: 1, offset: 0 })),
    axis: channelsLast ? 3 : 1,
  };
  const walk: Walk = {
    known: createStaticValues(network),
    pixels: new Map([[network.input.name, start]]),
  };
  const operators: string[] = [];
  const ends: Pixels[] = [];
  for (const node of network.nodes) {
    const read = node.inputs.flatMap((name) => walk.pixels.get(name) ?? []);
    if (read.length === 0 || node.op === 'Shape' || node.op === 'Size') continue;
    const step = node.domain === '' && Object.hasOwn(steps, node.op) ? steps[node.op] : undefined;
    const made = step === undefined ? undefined : attempt(step, node, walk);
    if (made === undefined) ends.push(...read);
    else {
      for (const [index, name] of node.outputs.entries())
        if (name !== '' && made[index] !== undefined) walk.pixels.set(name, made[index]);
      if (changesValues.has(node.op)) operators.push(node.op);
    }
  }
  return settle(ends);
  function settle(found: readonly Pixels[]): RecognisedPixels | undefined {
    const channels = found.flatMap((pixels) => pixels.channels);
    const own = [0, 1, 2].map((source) => channels.find((channel) => channel.source === source));
    if (own.some((channel) => channel === undefined) || !agree(channels, own as Channel[])) return undefined;
    const [red, green, blue] = own as [Channel, Channel, Channel];
    const all = [red, green, blue];
    if (all.every(({ factor, offset }) => factor === 1 && offset === 0)) return undefined;
    return {
      range: rangeOf(all),
      mean: all.map(({ factor, offset }) => -offset / factor || 0),
      deviation: all.map(({ factor }) => 1 / factor),
      channelOrder: orderOf(all),
      operators,
    };
  }
}

/** What cannot be read here is read, and refused, where the network is written. */
function attempt(step: Step, node: FileNode, walk: Walk): Pixels[] | undefined {
  try {
    return step(node, walk);
  } catch (error) {
    if (error instanceof NodeProblem) return undefined;
    throw error;
  }
}

function agree(channels: readonly Channel[], own: readonly Channel[]): boolean {
  return channels.every(({ source, factor, offset }) => {
    const wanted = own[source]!;
    return factor === wanted.factor && offset === wanted.offset;
  });
}

/** Only what fits one range and not the other is taken for it. */
function rangeOf(channels: readonly Channel[]): 1 | 255 | undefined {
  const means = channels.map(({ factor, offset }) => -offset / factor);
  const factors = channels.map(({ factor }) => factor);
  const allWithin = (values: readonly number[], low: number, high: number) =>
    values.every((value) => value >= low && value <= high);
  // No pixel of 0…1 has a mean beyond 1, and no normalisation leaves pixels of 0…255 more than a few units apart.
  if (allWithin(means, 20, 235)) return 255;
  if (allWithin(means, -1e-6, 1e-6) && allWithin(factors, 0.5 / 255, 12 / 255)) return 255;
  if (allWithin(means, 0.05, 0.95) && allWithin(factors, 0.9, 12)) return 1;
  return undefined;
}

/** Photographs are reddest: their means fall from red to blue, in the sets that networks were trained with by 10 % and more. */
function orderOf(channels: readonly Channel[]): 'rgb' | 'bgr' | undefined {
  const [first, middle, last] = channels.map(({ factor, offset }) => -offset / factor) as [
    number,
    number,
    number,
  ];
  if (first > 1.03 * middle && middle > 1.03 * last && last > 0) return 'rgb';
  if (last > 1.03 * middle && middle > 1.03 * first && first > 0) return 'bgr';
  return undefined;
}

const changesValues = new Set(['Add', 'Sub', 'Mul', 'Div', 'BatchNormalization', 'Conv']);

const only = (node: FileNode, { pixels }: Walk): Pixels | undefined => {
  const found = node.inputs.filter((name) => pixels.has(name));
  return found.length === 1 && node.inputs[0] === found[0] ? pixels.get(found[0]!) : undefined;
};

const unchanged: Step = (node, walk) => {
  const pixels = only(node, walk);
  return pixels && [pixels];
};

/** The numbers of a constant, one for each channel; undefined when it differs from place to place. */
function perChannel(tensor: HostTensor | undefined, { channels, axis }: Pixels): number[] | undefined {
  if (tensor === undefined || !isFloat(tensor)) return undefined;
  const numbers = numbersOf(tensor);
  if (numbers.length === 1) return channels.map(() => numbers[0]!);
  // Aligned to the right: an image has four axes.
  const own = axis - 4 + tensor.dims.length;
  return numbers.length === channels.length && tensor.dims[own] === channels.length ? numbers : undefined;
}

function mapped(
  pixels: Pixels,
  values: readonly number[] | undefined,
  change: (channel: Channel, value: number) => Partial<Channel>,
): Pixels[] | undefined {
  if (values === undefined) return undefined;
  const channels = pixels.channels.map((channel, index) => ({
    ...channel,
    ...change(channel, values[index]!),
  }));
  return channels.every(
    ({ factor, offset }) => Number.isFinite(offset) && factor !== 0 && factor - factor === 0,
  )
    ? [{ ...pixels, channels }]
    : undefined;
}

type Arithmetic = (channel: Channel, value: number) => Partial<Channel>;

/** Arithmetic with one constant; `reversed` where it is the first operand. */
function arithmetic(plain: Arithmetic, reversed?: Arithmetic): Step {
  return (node, { known, pixels }) => {
    const [left, right] = node.inputs.map((name) => pixels.get(name));
    if (left !== undefined && right !== undefined) return undefined;
    if (left !== undefined) return mapped(left, perChannel(known(node.inputs[1]), left), plain);
    if (right === undefined || reversed === undefined) return undefined;
    return mapped(right, perChannel(known(node.inputs[0]), right), reversed);
  };
}

const plus: Arithmetic = ({ offset }, value) => ({ offset: offset + value });
const times: Arithmetic = ({ factor, offset }, value) => ({ factor: factor * value, offset: offset * value });

const batchNormalization: Step = (node, walk) => {
  const pixels = only(node, walk);
  if (pixels?.axis !== 1) return undefined;
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((index) => {
    const tensor = walk.known(node.inputs[index]);
    return tensor?.data.length === pixels.channels.length ? numbersOf(tensor) : undefined;
  });
  if (scale === undefined || bias === undefined || mean === undefined || variance === undefined)
    return undefined;
  const found = node.attributes.get('epsilon');
  const epsilon = found?.kind === 'float' ? found.value : 1e-5;
  const channels = pixels.channels.map(({ source, factor, offset }, index) => {
    const gain = scale[index]! / Math.sqrt(variance[index]! + epsilon);
    return { source, factor: factor * gain, offset: (offset - mean[index]!) * gain + bias[index]! };
  });
  return mapped(
    { ...pixels, channels },
    channels.map(() => 0),
    () => ({}),
  );
};

const transpose: Step = (node, walk) => {
  const pixels = only(node, walk);
  const perm = intsAttribute(node.attributes, 'perm') ?? [3, 2, 1, 0];
  const axis = pixels === undefined ? -1 : perm.indexOf(pixels.axis);
  return axis < 0 ? undefined : [{ ...pixels!, axis }];
};

function pick(pixels: Pixels, places: readonly number[]): Pixels[] | undefined {
  const count = pixels.channels.length;
  const channels = places.map((place) => pixels.channels[place < 0 ? place + count : place]);
  return channels.includes(undefined) ? undefined : [{ ...pixels, channels: channels as Channel[] }];
}

const gather: Step = (node, walk) => {
  const pixels = only(node, walk);
  const indices = walk.known(node.inputs[1]);
  const axis = intAttribute(node.attributes, 'axis', 0);
  if (pixels === undefined || indices?.dims.length !== 1 || (axis + 4) % 4 !== pixels.axis) return undefined;
  return pick(pixels, numbersOf(indices));
};

const slice: Step = (node, walk) => {
  const pixels = only(node, walk);
  const numbers = (index: number) => {
    const tensor = walk.known(node.inputs[index]);
    return tensor === undefined ? undefined : numbersOf(tensor);
  };
  const [starts, ends] = [numbers(1), numbers(2)];
  if (pixels === undefined || starts === undefined || ends === undefined) return undefined;
  const axes = (numbers(3) ?? [...starts.keys()]).map((axis) => (axis + 4) % 4);
  const at = axes.indexOf(pixels.axis);
  if (at < 0) return [pixels];
  const step = numbers(4)?.[at] ?? 1;
  const count = pixels.channels.length;
  const places = [...Array(count).keys()];
  const clamp = (place: number, low: number, high: number) =>
    Math.min(Math.max(place < 0 ? place + count : place, low), high);
  const [start, end] = [starts[at]!, ends[at]!];
  const taken =
    step > 0
      ? places.filter((place) => {
          const from = clamp(start, 0, count);
          return place >= from && place < clamp(end, 0, count) && (place - from) % step === 0;
        })
      : places.toReversed().filter((place) => {
          const from = clamp(start, -1, count - 1);
          return place <= from && place > clamp(end, -1, count - 1) && (from - place) % -step === 0;
        });
  return pick(pixels, taken);
};

const split: Step = (node, walk) => {
  const pixels = only(node, walk);
  if (pixels === undefined || (intAttribute(node.attributes, 'axis', 0) + 4) % 4 !== pixels.axis)
    return undefined;
  const given = walk.known(node.inputs[1]);
  const sizes = given === undefined ? intsAttribute(node.attributes, 'split') : numbersOf(given);
  const even = Math.ceil(pixels.channels.length / node.outputs.length);
  let start = 0;
  return node.outputs.map((_, index) => {
    const end = start + (sizes?.[index] ?? even);
    const piece = { ...pixels, channels: pixels.channels.slice(start, end) };
    start = end;
    return piece;
  });
};

const concat: Step = (node, { pixels }) => {
  const parts = node.inputs.map((name) => pixels.get(name));
  const [first] = parts;
  if (first === undefined || parts.includes(undefined)) return undefined;
  const axis = (intAttribute(node.attributes, 'axis', 0) + 4) % 4;
  const fits = (parts as Pixels[]).every((part) => part.axis === axis);
  return fits ? [{ axis, channels: (parts as Pixels[]).flatMap(({ channels }) => channels) }] : undefined;
};

/** A convolution of single places that scales channels or changes their order, and mixes nothing. */
const pointwise: Step = (node, walk) => {
  const pixels = only(node, walk);
  const weight = walk.known(node.inputs[1]);
  const bias = walk.known(node.inputs[2]);
  const [out = 0, inner = 0, height, width] = weight?.dims ?? [];
  const isPlain = (intsAttribute(node.attributes, 'strides') ?? []).every((step) => step === 1);
  if (pixels?.axis !== 1 || weight === undefined || height !== 1 || width !== 1 || out !== 3 || !isPlain)
    return undefined;
  const group = intAttribute(node.attributes, 'group', 1);
  const rows = [0, 1, 2].map((row) => numbersOf(weight).slice(row * inner, (row + 1) * inner));
  if (group * inner !== pixels.channels.length) return undefined;
  const channels = rows.map((row, index) => {
    const places = row.flatMap((value, place) => (value === 0 ? [] : [place]));
    const [place] = places;
    if (places.length !== 1 || place === undefined) return undefined;
    const from = pixels.channels[group === 1 ? place : index]!;
    const shift = bias === undefined ? 0 : Number(bias.data[index]!);
    return {
      source: from.source,
      factor: from.factor * row[place]!,
      offset: from.offset * row[place]! + shift,
    };
  });
  return channels.includes(undefined) ? undefined : [{ ...pixels, channels: channels as Channel[] }];
};

const steps: Readonly<Record<string, Step>> = {
  Identity: unchanged,
  Cast: unchanged,
  Dropout: unchanged,
  Add: arithmetic(plus, plus),
  Sub: arithmetic(
    ({ offset }, value) => ({ offset: offset - value }),
    ({ factor, offset }, value) => ({ factor: -factor, offset: value - offset }),
  ),
  Mul: arithmetic(times, times),
  Div: arithmetic(({ factor, offset }, value) => ({ factor: factor / value, offset: offset / value })),
  BatchNormalization: batchNormalization,
  Transpose: transpose,
  Gather: gather,
  Slice: slice,
  Split: split,
  Concat: concat,
  Conv: pointwise,
};
