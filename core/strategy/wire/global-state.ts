/**
 * A global state, and what a run puts under it, as they travel. With `fp32` and nothing kept back they are plain state
 * files. Otherwise a coded file: factors and head as they are, base weights as differences from the base model's own.
 * The coordinator goes on with what the file says, not with what it was made of, so that both ends have the same bits.
 */

import type { LoraLayer, ModelState } from '../../lora/model-state.ts';
import { invalid, requireFinite } from '../../lora/safetensors.ts';
import { coefficientsOf, combineRows } from '../../lora/seeded-rows.ts';
import {
  decodeModelState,
  encodeModelState,
  modelStateSizeBytes,
  nameOfA,
  type StateShape,
  stateShape,
  tensorsOf,
} from '../../lora/state-file.ts';
import { floatTensor } from '../../shared/tensor.ts';
import { seededRank, seededRowsOf, shapeOfLayer } from '../fixed-factor.ts';
import {
  codedSizeBytes,
  encodeCoded,
  type FileForm,
  isPlain,
  type LayerTable,
  type OpenedFile,
  openCoded,
} from './coded-file.ts';
import { assemble, baseEntries, baseWeightOf, requireSame } from './update.ts';
import {
  globalPartsOf,
  nameOfCoefficients,
  type Parts,
  travellingValues,
  type WireBase,
  type WireConfig,
  type WireContext,
  wireEntries,
} from './wire-context.ts';

export interface DecodeGlobalOptions extends WireContext {
  /** `createRunState(config, base)`: gives what never travels, and names the layers. */
  initial: ModelState;
}

/** Factors under a state always travel whole. */
const frozenBaseParts: Parts = { a: true, b: true, head: false };

function globalForm(context: Pick<WireContext, 'config' | 'plan'>): FileForm {
  return { kind: 'global', precision: context.config.wire.down, parts: globalPartsOf(context) };
}

/**
 * @param context `plan`: of the round that starts from this state; after the last round, the last round's
 * @throws AppError TRAINING_FAILED when values are not finite (but for a plain file)
 */
export function encodeGlobalState(state: ModelState, context: WireContext): Uint8Array {
  const form = globalForm(context);
  if (isPlain(form)) return encodeModelState(state);
  return encodeState(state, form, context);
}

/**
 * Reads a global state; what does not travel is filled in from `initial`.
 * @param bytes not used by the caller any more: values may stay in them
 * @param name what the file is called in errors
 * @throws AppError MODEL_FILE_INVALID
 */
export function decodeGlobalState(bytes: Uint8Array, name: string, options: DecodeGlobalOptions): ModelState {
  const { base, initial } = options;
  const form = globalForm(options);
  if (isPlain(form)) {
    const state = decodeModelState(bytes, name, { handedOver: true });
    requireSame(state, initial, name);
    return state;
  }
  const file = openCoded(bytes, name, form);
  requireSame(file, initial, name);
  const layers = layersOf(file.layers, initial, name);
  for (const module of initial.lora.keys()) {
    if (!layers.has(module)) throw invalid(name, `the layer "${module}" is missing`);
  }
  if (form.parts.seeded !== undefined) {
    return readRotatedState(file, { ...initial, lora: layers }, form, options, name);
  }
  for (const [module, layer] of form.parts.a && form.parts.b ? [] : layers) {
    const own = initial.lora.get(module)!;
    if (layer.r === own.r) layers.set(module, { ...layer, a: own.a, b: own.b });
    else throw invalid(name, `layer "${module}" has rank ${layer.r}: a run that keeps factors has ${own.r}`);
  }
  return readState(file, { ...initial, lora: layers }, form, base, name);
}

/** Exact size in bytes of the file of a global state of this shape. */
export function globalStateSizeBytes(
  shape: StateShape,
  context: Pick<WireContext, 'config' | 'plan'>,
): number {
  const form = globalForm(context);
  return isPlain(form) ? modelStateSizeBytes(shape) : codedSizeBytes(shape, form);
}

/** Number of model values in that file. */
export function globalStateValueCount(
  shape: StateShape,
  context: Pick<WireContext, 'config' | 'plan'>,
): number {
  return travellingValues(shape, globalPartsOf(context));
}

interface FrozenBaseContext {
  config: WireConfig;
  base: WireBase;
}

function frozenBaseForm({ wire }: WireConfig): FileForm {
  return { kind: 'foundation', precision: wire.down, parts: frozenBaseParts };
}

/** A part that goes under the global state: layers of any rank and base weights; its head does not travel. */
export function encodeFrozenBase(part: ModelState, { config, base }: FrozenBaseContext): Uint8Array {
  const form = frozenBaseForm(config);
  const bare = { ...part, head: new Map() };
  return form.precision === 'fp32' ? encodeModelState(bare) : encodeState(bare, form, { config, base });
}

/**
 * @param options `initial` names the layers that a part may have
 * @throws AppError MODEL_FILE_INVALID
 */
export function decodeFrozenBase(
  bytes: Uint8Array,
  name: string,
  options: FrozenBaseContext & { initial: ModelState },
): ModelState {
  const { config, base, initial } = options;
  const form = frozenBaseForm(config);
  if (form.precision === 'fp32') {
    const part = decodeModelState(bytes, name);
    requireSame(part, initial, name);
    return part;
  }
  const file = openCoded(bytes, name, form);
  requireSame(file, initial, name);
  const layers = layersOf(file.layers, initial, name);
  return readState(file, { ...initial, lora: layers, head: new Map() }, form, base, name);
}

/** Exact size in bytes of the file of a frozen base delta part of this shape. */
export function frozenBaseSizeBytes(
  shape: StateShape,
  { config }: Pick<FrozenBaseContext, 'config'>,
): number {
  const form = frozenBaseForm(config);
  const bare = { ...shape, head: [] };
  return form.precision === 'fp32' ? modelStateSizeBytes(bare) : codedSizeBytes(bare, form);
}

/** Number of model values in that file. */
export function frozenBaseValueCount(shape: StateShape): number {
  return travellingValues(shape, frozenBaseParts);
}

function encodeState(state: ModelState, form: FileForm, { config, base }: FrozenBaseContext): Uint8Array {
  const tensors = tensorsOf(state);
  const { seeded } = form.parts;
  for (const layer of seeded === undefined ? [] : state.lora.values()) {
    if (layer.r === seeded?.(shapeOfLayer(layer))) continue;
    tensors.set(nameOfCoefficients(layer.module), coefficientsOf(layer.a, seededRowsOf(config, layer)));
  }
  return encodeCoded(stateShape(state), tensors, form, {
    predicted: (name) => baseWeightOf(base, name),
  }).bytes;
}

/** The values of a coded file in a state of their shapes; what does not travel stays as it is in `frame`. */
function readState(
  file: OpenedFile,
  frame: ModelState,
  form: FileForm,
  base: WireBase,
  name: string,
): ModelState {
  const shape = { ...stateShape(frame), base: baseEntries(file.names, base, name) };
  const tensors = file.read(wireEntries(shape, form.parts), (tensor) => baseWeightOf(base, tensor));
  return assemble(frame, tensors, shape.base);
}

/** As {@link readState}, with each layer's A made of its seeded rows: all of them, or mixtures as the file says. */
function readRotatedState(
  file: OpenedFile,
  frame: ModelState,
  form: FileForm,
  { config, base, initial }: DecodeGlobalOptions,
  name: string,
): ModelState {
  const seeded = seededRank(config);
  for (const layer of frame.lora.values()) {
    const most = seeded(shapeOfLayer(layer));
    if (layer.r > most)
      throw invalid(name, `layer "${layer.module}" has rank ${layer.r}: it has ${most} in this run at most`);
  }
  const shape = { ...stateShape(frame), base: baseEntries(file.names, base, name) };
  const tensors = file.read(wireEntries(shape, form.parts), (tensor) => baseWeightOf(base, tensor));
  for (const layer of frame.lora.values()) {
    const { module } = layer;
    // Most runs begin with all rows: drawn anew they would take as long as a training step.
    const own = initial.lora.get(module)!;
    const rows = own.r === seeded(shapeOfLayer(layer)) ? own.a : seededRowsOf(config, layer);
    const coefficients = tensors.get(nameOfCoefficients(module));
    const a = coefficients === undefined ? rows : combineRows(coefficients, rows);
    requireFinite(a.data, nameOfA(module), name);
    tensors.set(nameOfA(module), a);
  }
  return assemble(frame, tensors, shape.base);
}

/** Empty layers of the ranks that a file names, to be filled. @throws AppError MODEL_FILE_INVALID */
function layersOf(table: LayerTable, initial: ModelState, name: string): Map<string, LoraLayer> {
  const layers = new Map<string, LoraLayer>();
  for (const [module, { r, scale }] of Object.entries(table)) {
    const own = initial.lora.get(module);
    if (own === undefined) throw invalid(name, `the layer "${module}" is none of this run`);
    const [, ...inDims] = own.a.dims;
    const [out = 0, , ...bTail] = own.b.dims;
    // Made without values: a hostile rank must not take memory before the tensors are seen to be there.
    const a = { ...floatTensor([0]), dims: [r, ...inDims] };
    const b = { ...floatTensor([0]), dims: [out, r, ...bTail] };
    layers.set(module, { module, r, scale, a, b });
  }
  return layers;
}
