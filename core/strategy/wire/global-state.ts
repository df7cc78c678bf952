/**
 * A global state, and what a run puts under it, as they travel. With `fp32` and nothing kept back they are plain state
 * files. Otherwise a coded file: factors and head as they are, base weights as differences from the base model's own.
 * The coordinator goes on with what the file says, not with what it was made of, so that both ends have the same bits.
 */
import {
  type LayerOf,
  type ModelState,
  mapTensors,
  nameOfA,
  type Shape,
  type StateShape,
  shapesAtRank,
  tensorsOf,
} from '../../lora/model-state.ts';
import { invalid, requireFinite } from '../../lora/safetensors.ts';
import { coefficientsOf, combineRows } from '../../lora/seeded-rows.ts';
import { decodeModelState, encodeModelState, type LayerTable } from '../../lora/state-file.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import { seededRowsOf } from '../fixed-factor.ts';
import { encodeCoded, type OpenedFile, openCoded } from './coded-file.ts';
import {
  baseWeightOf,
  type FileForm,
  frozenBaseForm,
  globalForm,
  isPlainFile,
  nameOfCoefficients,
  replacedWeights,
  requireSame,
  type WireContext,
  wireEntries,
} from './wire-context.ts';

export interface DecodeGlobalOptions extends WireContext {
  /** `createRunState(config, base)`: gives what never travels, and names the layers. */
  initial: ModelState;
}

type FrozenBaseContext = Pick<WireContext, 'config' | 'base'>;
type DecodeOptions = Omit<DecodeGlobalOptions, 'plan'>;

/** @throws AppError TRAINING_FAILED when values are not finite (but for a plain file) */
export function encodeGlobalState(state: ModelState, context: WireContext): Uint8Array {
  return encodeState(state, globalForm(context), context);
}

/**
 * Reads a global state; what does not travel is filled in from `initial`.
 * @param bytes not used by the caller any more: values may stay in them
 * @param name what the file is called in errors
 * @throws AppError MODEL_FILE_INVALID
 */
export function decodeGlobalState(bytes: Uint8Array, name: string, options: DecodeGlobalOptions): ModelState {
  const { initial } = options;
  const form = globalForm(options);
  if (isPlainFile(form)) return readPlain(bytes, name, initial);
  const file = openCoded(bytes, name, form);
  requireSame(file, initial, name);
  const lora = layersOf(file.layers, initial, name);
  for (const [module, own] of initial.lora) {
    const layer = lora.get(module);
    if (layer === undefined) throw invalid(name, `the layer "${module}" is missing`);
    requireRank(layer, own.r, form, name);
  }
  return readState(file, { ...initial, lora }, form, options, name);
}

/** A part that goes under the global state: layers of any rank and base weights; its head does not travel. */
export function encodeFrozenBase(part: ModelState, context: FrozenBaseContext): Uint8Array {
  return encodeState({ ...part, head: new Map() }, frozenBaseForm(context), context);
}

/**
 * @param bytes not used by the caller any more: values may stay in them
 * @param options `initial` names the layers that a part may have
 * @throws AppError MODEL_FILE_INVALID
 */
export function decodeFrozenBase(bytes: Uint8Array, name: string, options: DecodeOptions): ModelState {
  const { initial } = options;
  const form = frozenBaseForm(options);
  if (isPlainFile(form)) return readPlain(bytes, name, initial);
  const file = openCoded(bytes, name, form);
  requireSame(file, initial, name);
  const lora = layersOf(file.layers, initial, name);
  return readState(file, { ...initial, lora, head: new Map() }, form, options, name);
}

function encodeState(state: ModelState, form: FileForm, { config, base }: FrozenBaseContext): Uint8Array {
  if (isPlainFile(form)) return encodeModelState(state);
  const tensors = tensorsOf(state);
  const { seeded } = form.parts;
  for (const layer of seeded === undefined ? [] : state.lora.values()) {
    if (layer.r === seeded?.(layer)) continue;
    tensors.set(nameOfCoefficients(layer.module), coefficientsOf(layer.a, seededRowsOf(config, layer)));
  }
  return encodeCoded(state, tensors, form, { predicted: (name) => baseWeightOf(base, name) }).bytes;
}

function readPlain(bytes: Uint8Array, name: string, initial: ModelState): ModelState {
  const state = decodeModelState(bytes, name, { handedOver: true });
  requireSame(state, initial, name);
  return state;
}

/** The values of a coded file in a state of their shapes; what does not travel is that of `initial`. */
function readState(
  file: OpenedFile,
  frame: StateShape,
  form: FileForm,
  options: DecodeOptions,
  name: string,
): ModelState {
  const { base, initial } = options;
  const shape: StateShape = { ...frame, base: replacedWeights(file.names, base, name) };
  const arrived = file.read(wireEntries(shape, form.parts), (tensor) => baseWeightOf(base, tensor));
  if (form.parts.seeded !== undefined) addRotated(arrived, shape, form.parts.seeded, options, name);
  const own = tensorsOf(initial);
  return mapTensors(shape, (_, tensor) => arrived.get(tensor) ?? own.get(tensor)!);
}

/** Each layer's A, made of its seeded rows: all of them, or mixtures as the file says. */
function addRotated(
  arrived: Map<string, FloatTensor>,
  { lora }: StateShape,
  seeded: (layer: LayerOf<Shape>) => number,
  { config, initial }: DecodeOptions,
  name: string,
): void {
  for (const layer of lora.values()) {
    const { module } = layer;
    // Most runs begin with all rows: drawn anew they would take as long as a training step.
    const own = initial.lora.get(module)!;
    const rows = own.r === seeded(layer) ? own.a : seededRowsOf(config, layer);
    const coefficients = arrived.get(nameOfCoefficients(module));
    const a = coefficients === undefined ? rows : combineRows(coefficients, rows);
    requireFinite(a.data, nameOfA(module), name);
    arrived.set(nameOfA(module), a);
  }
}

/** Layers of the ranks that a file names: a hostile rank must not take memory before the tensors are seen to be there. */
function layersOf(table: LayerTable, initial: ModelState, name: string): Map<string, LayerOf<Shape>> {
  const layers = new Map<string, LayerOf<Shape>>();
  for (const [module, { r, scale }] of Object.entries(table)) {
    const own = initial.lora.get(module);
    if (own === undefined) throw invalid(name, `the layer "${module}" is not part of this run`);
    layers.set(module, { module, r, scale, ...shapesAtRank(own, r) });
  }
  return layers;
}

/** @param own rank of the layer in the run's first state, from which a factor that does not travel is taken */
function requireRank(layer: LayerOf<Shape>, own: number, { parts }: FileForm, name: string): void {
  const { module, r } = layer;
  const most = parts.seeded?.(layer);
  if (most !== undefined && r > most)
    throw invalid(name, `layer "${module}" has rank ${r}: this run allows at most ${most}`);
  if (most === undefined && !(parts.a && parts.b) && r !== own)
    throw invalid(name, `layer "${module}" has rank ${r}: this run keeps factors of rank ${own}`);
}
