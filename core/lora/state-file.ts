/**
 * A ModelState as one safetensors file (float32). The same state always gives the same bytes, whatever
 * the order of its maps, so the file's SHA-256 identifies the state.
 * Its tensors have the names of `tensorsOf`.
 */
import { z } from 'zod';
import { canonicalJson } from '../shared/hash.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import {
  basePrefix,
  headPrefix,
  type LoraLayer,
  type ModelState,
  nameOfA,
  nameOfB,
  type StateShape,
  tensorsOf,
} from './model-state.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  invalid,
  parseMetadataJson,
  safetensorsSizeBytes,
} from './safetensors.ts';

const format = 'anneal-model-state';
const formatVersion = '1';

const metadataSchema = z.object({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  baseSha256: sha256Schema,
  classes: z.string(),
  lora: z.string(),
});
const classesSchema = z.array(z.string());
const layersSchema = z.record(
  z.string(),
  z.strictObject({ r: z.int().nonnegative().max(1_000_000), scale: z.number().positive() }),
);
export type LayerTable = Readonly<z.infer<typeof layersSchema>>;

/** What every file of a state says about it beside its tensors, sorted by name. @param more about the file itself */
export function stateMetadata(
  { baseSha256, classes, lora }: StateShape,
  more: Readonly<Record<string, string>>,
): Record<string, string> {
  const layers = Object.fromEntries([...lora].map(([module, { r, scale }]) => [module, { r, scale }]));
  const all = { baseSha256, classes: JSON.stringify(classes), lora: canonicalJson(layers), ...more };
  return Object.fromEntries(inFileOrder(new Map(Object.entries(all))));
}

/** @throws AppError MODEL_FILE_INVALID */
export function readStateMetadata(
  { classes, lora }: { classes: string; lora: string },
  name: string,
): { classes: string[]; layers: LayerTable } {
  return {
    classes: parseMetadataJson(classes, classesSchema, 'classes', name),
    layers: parseMetadataJson(lora, layersSchema, 'lora', name),
  };
}

const metadataOf = (shape: StateShape) => stateMetadata(shape, { format, formatVersion });

/** By name in the order in which files hold them: UTF-16 code units, the same on every machine. */
export function inFileOrder<T>(entries: ReadonlyMap<string, T>): [string, T][] {
  return [...entries].sort(([x], [y]) => (x < y ? -1 : 1));
}

/** Size in bytes of the file that {@link encodeModelState} makes of a state of this shape. */
export function modelStateSizeBytes(shape: StateShape): number {
  const entries = inFileOrder(tensorsOf(shape)).map(([name, { dims }]) => ({ name, dims }));
  return safetensorsSizeBytes(entries, metadataOf(shape));
}

/** The state as one safetensors file. */
export function encodeModelState(state: ModelState): Uint8Array {
  return encodeSafetensors(new Map(inFileOrder(tensorsOf(state))), metadataOf(state));
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
  const { baseSha256 } = metadata.data;
  const { classes, layers } = readStateMetadata(metadata.data, name);

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
  return { baseSha256, classes, lora, head, base };
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
