/**
 * A global state, and what a run puts under it, as they travel. With `fp32` and nothing kept back they are plain state
 * files. Otherwise a coded file: factors and head as they are, base weights as differences from the base model's own.
 * The coordinator goes on with what the file says, not with what it was made of, so that both ends have the same bits.
 */
import { mixingOf, mixRows } from '../../lora/drawn-rows.ts';
import type { LoraLayer, ModelState } from '../../lora/model-state.ts';
import { invalid, requireFinite } from '../../lora/safetensors.ts';
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
import { drawnRank, drawnRowsOf, shapeOfLayer } from '../fixed-factor.ts';
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
  nameOfMixing,
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
const foundationParts: Parts = { a: true, b: true, head: false };

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
  if (form.parts.drawn !== undefined) {
    return readTurnedState(file, { ...initial, lora: layers }, form, options, name);
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

interface FoundationContext {
  config: WireConfig;
  base: WireBase;
}

function foundationForm({ wire }: WireConfig): FileForm {
  return { kind: 'foundation', precision: wire.down, parts: foundationParts };
}

/** A part that goes under the global state: layers of any rank and base weights; its head does not travel. */
export function encodeFoundation(part: ModelState, { config, base }: FoundationContext): Uint8Array {
  const form = foundationForm(config);
  const bare = { ...part, head: new Map() };
  return form.precision === 'fp32' ? encodeModelState(bare) : encodeState(bare, form, { config, base });
}

/**
 * @param options `initial` names the layers that a part may have
 * @throws AppError MODEL_FILE_INVALID
 */
export function decodeFoundation(
  bytes: Uint8Array,
  name: string,
  options: FoundationContext & { initial: ModelState },
): ModelState {
  const { config, base, initial } = options;
  const form = foundationForm(config);
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

/** Exact size in bytes of the file of a foundation part of this shape. */
export function foundationSizeBytes(
  shape: StateShape,
  { config }: Pick<FoundationContext, 'config'>,
): number {
  const form = foundationForm(config);
  const bare = { ...shape, head: [] };
  return form.precision === 'fp32' ? modelStateSizeBytes(bare) : codedSizeBytes(bare, form);
}

/** Number of model values in that file. */
export function foundationValueCount(shape: StateShape): number {
  return travellingValues(shape, foundationParts);
}

function encodeState(state: ModelState, form: FileForm, { config, base }: FoundationContext): Uint8Array {
  const tensors = tensorsOf(state);
  const { drawn } = form.parts;
  for (const layer of drawn === undefined ? [] : state.lora.values()) {
    if (layer.r === drawn?.(shapeOfLayer(layer))) continue;
    tensors.set(nameOfMixing(layer.module), mixingOf(layer.a, drawnRowsOf(config, layer)));
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

/** As {@link readState}, with each layer's A made of its drawn rows: all of them, or mixtures as the file says. */
function readTurnedState(
  file: OpenedFile,
  frame: ModelState,
  form: FileForm,
  { config, base, initial }: DecodeGlobalOptions,
  name: string,
): ModelState {
  const drawn = drawnRank(config);
  for (const layer of frame.lora.values()) {
    const most = drawn(shapeOfLayer(layer));
    if (layer.r > most)
      throw invalid(name, `layer "${layer.module}" has rank ${layer.r}: it has ${most} in this run at most`);
  }
  const shape = { ...stateShape(frame), base: baseEntries(file.names, base, name) };
  const tensors = file.read(wireEntries(shape, form.parts), (tensor) => baseWeightOf(base, tensor));
  for (const layer of frame.lora.values()) {
    const { module } = layer;
    // Most runs begin with all rows: drawn anew they would take as long as a training step.
    const own = initial.lora.get(module)!;
    const rows = own.r === drawn(shapeOfLayer(layer)) ? own.a : drawnRowsOf(config, layer);
    const mixing = tensors.get(nameOfMixing(module));
    const a = mixing === undefined ? rows : mixRows(mixing, rows);
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
