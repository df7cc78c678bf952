/**
 * A ModelState as one safetensors file (float32). The same state always gives the same bytes, whatever
 * the order of its maps, so the file's SHA-256 identifies the state.
 *
 * Tensors: `lora.<module>.lora_A.weight`, `lora.<module>.lora_B.weight`, `head.<name>`, `base.<name>`.
 */
import { z } from 'zod';
import { canonicalJson } from '../shared/hash.ts';
import { elementCount, type FloatTensor } from '../shared/tensor.ts';
import type { LoraLayer, ModelState } from './model-state.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  invalid,
  parseMetadataJson,
  safetensorsSizeBytes,
  type TensorEntry,
} from './safetensors.ts';

const format = 'anneal-model-state';
const formatVersion = '1';
const headPrefix = 'head.';

/** Names of a state's tensors in its files. */
export const nameOfA = (module: string): string => `lora.${module}.lora_A.weight`;
export const nameOfB = (module: string): string => `lora.${module}.lora_B.weight`;
export const nameOfHead = (name: string): string => `${headPrefix}${name}`;
export const basePrefix = 'base.';
export const nameOfBase = (name: string): string => `${basePrefix}${name}`;

/** Names and shapes of a state without its values: enough to count and to measure it. */
export interface StateShape {
  readonly baseSha256: string;
  readonly classes: readonly string[];
  readonly lora: readonly {
    readonly module: string;
    readonly r: number;
    readonly scale: number;
    readonly aDims: readonly number[];
    readonly bDims: readonly number[];
  }[];
  readonly head: readonly TensorEntry[];
  readonly base: readonly TensorEntry[];
}

const metadataSchema = z.object({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  baseSha256: z.string().regex(/^[0-9a-f]{64}$/),
  classes: z.string(),
  lora: z.string(),
});
const classesSchema = z.array(z.string());
const loraSchema = z.record(
  z.string(),
  z.strictObject({ r: z.number().int().nonnegative(), scale: z.number().positive() }),
);

/** Shape of a state. */
export function stateShape(state: ModelState): StateShape {
  const entries = (tensors: ReadonlyMap<string, FloatTensor>) =>
    [...tensors].map(([name, { dims }]) => ({ name, dims }));
  return {
    baseSha256: state.baseSha256,
    classes: state.classes,
    lora: [...state.lora.values()].map(({ module, r, scale, a, b }) => ({
      module,
      r,
      scale,
      aDims: a.dims,
      bDims: b.dims,
    })),
    head: entries(state.head),
    base: entries(state.base),
  };
}

/** Number of values of a state of this shape; what `countParameters` gives for the state itself. */
export function countShapeParameters(shape: StateShape): number {
  const dims = [
    ...shape.lora.flatMap((layer) => [layer.aDims, layer.bDims]),
    ...shape.head.map((entry) => entry.dims),
    ...shape.base.map((entry) => entry.dims),
  ];
  return dims.reduce((sum, each) => sum + elementCount(each), 0);
}

/** Size in bytes of the file that {@link encodeModelState} makes of a state of this shape. */
export function modelStateSizeBytes(shape: StateShape): number {
  return safetensorsSizeBytes(layout(shape), metadataOf(shape));
}

/** The file's tensors in the order in which they are written. */
function layout(shape: StateShape): TensorEntry[] {
  const entries = [
    ...shape.lora.flatMap(({ module, aDims, bDims }) => [
      { name: nameOfA(module), dims: aDims },
      { name: nameOfB(module), dims: bDims },
    ]),
    ...shape.head.map(({ name, dims }) => ({ name: nameOfHead(name), dims })),
    ...shape.base.map(({ name, dims }) => ({ name: nameOfBase(name), dims })),
  ];
  return entries.sort((x, y) => compareText(x.name, y.name));
}

function metadataOf(shape: StateShape): Record<string, string> {
  const lora = Object.fromEntries(shape.lora.map(({ module, r, scale }) => [module, { r, scale }]));
  return {
    baseSha256: shape.baseSha256,
    classes: JSON.stringify(shape.classes),
    format,
    formatVersion,
    lora: canonicalJson(lora),
  };
}

/** By UTF-16 code units: the same on every machine, unlike localeCompare. */
export function compareText(x: string, y: string): number {
  if (x === y) return 0;
  return x < y ? -1 : 1;
}

/** All tensors of a state by their names in files. */
export function tensorsOf(state: Pick<ModelState, 'lora' | 'head' | 'base'>): Map<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const [module, { a, b }] of state.lora) tensors.set(nameOfA(module), a).set(nameOfB(module), b);
  for (const [name, tensor] of state.head) tensors.set(nameOfHead(name), tensor);
  for (const [name, tensor] of state.base) tensors.set(nameOfBase(name), tensor);
  return tensors;
}

/** The state as one safetensors file. */
export function encodeModelState(state: ModelState): Uint8Array {
  const tensors = tensorsOf(state);
  const shape = stateShape(state);
  const ordered = new Map(layout(shape).map(({ name }) => [name, tensors.get(name)!]));
  return encodeSafetensors(ordered, metadataOf(shape));
}

/**
 * Reads a file of {@link encodeModelState}. Says nothing about whether it fits a base model; values may be NaN.
 * @param name what the file is called in errors (no folder)
 * @param options `handedOver`: the caller uses `bytes` no more, and the values may stay in them
 * @throws AppError MODEL_FILE_INVALID naming file, tensor and what was expected
 */
export function decodeModelState(
  bytes: Uint8Array,
  name: string,
  options: { handedOver?: boolean } = {},
): ModelState {
  const file = decodeSafetensors(bytes, name, options);
  const metadata = metadataSchema.safeParse(file.metadata);
  if (!metadata.success) {
    throw invalid(name, `expected the metadata of an ${format} of version ${formatVersion}`, metadata.error);
  }
  const classes = parseMetadataJson(metadata.data.classes, classesSchema, 'classes', name);
  const layers = parseMetadataJson(metadata.data.lora, loraSchema, 'lora', name);

  const rest = new Map(file.tensors);
  const lora = new Map<string, LoraLayer>();
  for (const [module, { r, scale }] of Object.entries(layers)) {
    const a = take(rest, nameOfA(module), name);
    const b = take(rest, nameOfB(module), name);
    lora.set(module, checkedLayer({ module, r, scale, a, b }, name));
  }
  const head = new Map<string, FloatTensor>();
  const base = new Map<string, FloatTensor>();
  for (const [tensor, value] of rest) {
    if (tensor.startsWith(headPrefix)) head.set(tensor.slice(headPrefix.length), value);
    else if (tensor.startsWith(basePrefix)) base.set(tensor.slice(basePrefix.length), value);
    else throw invalid(name, `tensor "${tensor}" was not expected`);
  }
  return { baseSha256: metadata.data.baseSha256, classes, lora, head, base };
}

function take(tensors: Map<string, FloatTensor>, tensor: string, name: string): FloatTensor {
  const value = tensors.get(tensor);
  if (value === undefined) throw invalid(name, `tensor "${tensor}" is missing`);
  tensors.delete(tensor);
  return value;
}

/** The layer itself when its factors have the shapes of {@link LoraLayer}. @throws AppError MODEL_FILE_INVALID */
export function checkedLayer(layer: LoraLayer, name: string): LoraLayer {
  const { module, r, a, b } = layer;
  const rank = a.dims.length;
  if ((rank !== 2 && rank !== 4) || a.dims[0] !== r) {
    const found = `found [${a.dims.join(', ')}]`;
    throw invalid(name, `lora_A of "${module}": expected [${r}, in] or [${r}, in, height, width], ${found}`);
  }
  const tail = rank === 4 ? [r, 1, 1] : [r];
  if (b.dims.length !== rank || !tail.every((size, axis) => b.dims[axis + 1] === size)) {
    throw invalid(
      name,
      `lora_B of "${module}": expected [out, ${tail.join(', ')}], found [${b.dims.join(', ')}]`,
    );
  }
  return layer;
}

/** Whether two states hold exactly the same, bit by bit, in any order of their maps. */
export function statesEqual(x: ModelState, y: ModelState): boolean {
  return Buffer.compare(encodeModelState(x), encodeModelState(y)) === 0;
}
