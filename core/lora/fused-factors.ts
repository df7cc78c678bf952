/**
 * Layers that are one module in Python: timm computes q, k and v in one Linear. Factors of its parts are exactly
 * factors of the whole: A is stacked, B has each part's rows in the columns of its own share of A, zeros elsewhere.
 */
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import type { LoraLayer } from './model-state.ts';
import { type PeftNames, scaledTensor } from './peft-format.ts';

/** One module of PEFT's weights file. */
export interface PeftModule {
  readonly module: string;
  readonly r: number;
  readonly scale: number;
  readonly a: FloatTensor;
  readonly b: FloatTensor;
  /** The layers in it, and from which row of A each has its share. */
  readonly parts: readonly {
    readonly layer: LoraLayer;
    readonly rankStart: number;
    readonly rowStart: number;
  }[];
}

/**
 * The modules that carry these layers, in the order of the first layer of each. Parts of different scales get the
 * largest one, and the ratio goes into B.
 * @param layers of rank 1 or more
 */
export function fuseLayers(layers: readonly LoraLayer[], names: PeftNames): PeftModule[] {
  const groups = new Map<
    string,
    { rows: number | undefined; members: { layer: LoraLayer; rowStart: number }[] }
  >();
  for (const layer of layers) {
    const { module, start = 0, rows } = names.placeOf(layer.module);
    const group = groups.get(module) ?? { rows, members: [] };
    group.members.push({ layer, rowStart: start });
    groups.set(module, group);
  }
  return [...groups].map(([module, { rows, members }]) => {
    const [first] = members;
    if (rows !== undefined) return fuse(module, rows, members);
    const { r, scale, a, b } = first!.layer;
    return { module, r, scale, a, b, parts: [{ ...first!, rankStart: 0 }] };
  });
}

function fuse(
  module: string,
  rows: number,
  members: readonly { layer: LoraLayer; rowStart: number }[],
): PeftModule {
  const r = members.reduce((sum, { layer }) => sum + layer.r, 0);
  const scale = Math.max(...members.map(({ layer }) => layer.scale));
  const width = members[0]!.layer.a.dims[1]!;
  const a = floatTensor([r, width]);
  const b = floatTensor([rows, r]);
  let rankStart = 0;
  const parts = members.map(({ layer, rowStart }) => {
    const part = { layer, rankStart, rowStart };
    a.data.set(layer.a.data, rankStart * width);
    const own = scaledTensor(layer.b, layer.scale / scale).data;
    for (let row = 0; row < layer.b.dims[0]!; row++) {
      const values = own.subarray(row * layer.r, (row + 1) * layer.r);
      b.data.set(values, (rowStart + row) * r + rankStart);
    }
    rankStart += layer.r;
    return part;
  });
  return { module, r, scale, a, b, parts };
}

/** A block of a fused module's factors: rows of A and the same columns of B, for some of the outputs. */
export interface FactorBlock {
  readonly rankStart: number;
  readonly r: number;
  readonly rowStart: number;
  readonly rows: number;
}

/** Cuts a layer's factors out of those of its module. The block lies inside the factors. */
export function sliceFactors(
  module: { readonly a: FloatTensor; readonly b: FloatTensor },
  { rankStart, r, rowStart, rows }: FactorBlock,
): { a: FloatTensor; b: FloatTensor } {
  const width = module.a.dims[1]!;
  const stride = module.b.dims[1]!;
  const a = floatTensor([r, width], module.a.data.slice(rankStart * width, (rankStart + r) * width));
  const b = floatTensor([rows, r]);
  for (let row = 0; row < rows; row++) {
    const from = (rowStart + row) * stride + rankStart;
    b.data.set(module.b.data.subarray(from, from + r), row * r);
  }
  return { a, b };
}

/**
 * The factors without the directions whose column of B is all zero, which change nothing: what is left of a stacked
 * module's factors in one of its parts. Null when nothing is left.
 */
export function dropZeroColumns(factors: {
  a: FloatTensor;
  b: FloatTensor;
}): { a: FloatTensor; b: FloatTensor } | null {
  const [rows = 0, r = 0] = factors.b.dims;
  const width = factors.a.dims[1]!;
  const kept = Array.from({ length: r }, (_, k) => k).filter((k) => {
    for (let row = 0; row < rows; row++) if (factors.b.data[row * r + k] !== 0) return true;
    return false;
  });
  if (kept.length === 0) return null;
  const a = floatTensor([kept.length, width]);
  const b = floatTensor([rows, kept.length]);
  for (const [at, k] of kept.entries()) {
    a.data.set(factors.a.data.subarray(k * width, (k + 1) * width), at * width);
    for (let row = 0; row < rows; row++) b.data[row * kept.length + at] = factors.b.data[row * r + k]!;
  }
  return { a, b };
}
