/**
 * A site's update as it travels. With `fp32` and nothing kept back it is the trained state's own file. Otherwise it is a
 * coded file (coded-file.ts) of what travels; values of less than 32 bits are differences from the state that the round
 * started from, which both ends have bit for bit.
 */

import type { StrategyName } from '../../config/setting.ts';
import type { LoraLayer, ModelState } from '../../lora/model-state.ts';
import { invalid } from '../../lora/safetensors.ts';
import {
  basePrefix,
  decodeModelState,
  encodeModelState,
  modelStateSizeBytes,
  nameOfA,
  nameOfB,
  nameOfBase,
  nameOfHead,
  type StateShape,
  stateShape,
  tensorsOf,
} from '../../lora/state-file.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import { fixesA } from '../fixed-factor.ts';
import { cutLayer } from '../site-rank.ts';
import { codedSizeBytes, encodeCoded, type FileForm, isPlain, openCoded } from './coded-file.ts';
import {
  partsOf,
  type Residual,
  travellingValues,
  type WireBase,
  type WireContext,
  wireEntries,
} from './wire-context.ts';

export interface EncodeUpdateOptions extends WireContext {
  /** The decoded global state with which the round started; layers may have higher ranks than `trained`. */
  start: ModelState;
  trained: ModelState;
  /** What rounding took from this site's last update. */
  residual?: Residual | null;
}

export interface EncodedUpdate {
  bytes: Uint8Array;
  /** To be added to the next update; null unless the run asks for error feedback. */
  residual: Residual | null;
}

export interface DecodeUpdateOptions extends WireContext {
  start: ModelState;
}

/**
 * Strategies that average factors apart, so that a factor of the next round is the continuation of this round's. After
 * an exact aggregation the factors are other ones, and what rounding took from the old ones means nothing to them. With a
 * fixed A they go on until a cut, after which the shape is another one.
 */
const continuesFactors: ReadonlySet<StrategyName> = new Set([
  'fedavg-lora',
  'ffa-lora',
  'fedsa-lora',
  'hetlora',
]);

function formOf(context: Pick<WireContext, 'config' | 'plan'>): FileForm {
  return { kind: 'update', precision: context.config.wire.up, parts: partsOf(context) };
}

/**
 * @throws AppError TRAINING_FAILED when values are not finite (but for a plain file, which the coordinator judges)
 * @throws RangeError when `trained` has a layer that `start` lacks
 */
export function encodeUpdate(options: EncodeUpdateOptions): EncodedUpdate {
  const { config, base, start, trained, residual } = options;
  const form = formOf(options);
  const feedback = config.wire.errorFeedback && form.precision !== 'fp32';
  if (isPlain(form)) return { bytes: encodeModelState(trained), residual: null };
  const file = encodeCoded(stateShape(trained), tensorsOf(trained), form, {
    predicted: predictionOf(start, ranksOf(trained), base),
    residual: residual ?? undefined,
    carries: (name) =>
      feedback && (!name.startsWith('lora.') || continuesFactors.has(config.strategy) || fixesA(config)),
  });
  return { bytes: file.bytes, residual: feedback ? file.residual : null };
}

/**
 * Reads an update; what does not travel is filled in from `start`, cut to the update's rank.
 * @param bytes not used by the caller any more: values may stay in them
 * @param name what the file is called in errors
 * @throws AppError MODEL_FILE_INVALID; whether the state fits the round is for `checkUpdate` to say
 */
export function decodeUpdate(bytes: Uint8Array, name: string, options: DecodeUpdateOptions): ModelState {
  const { base, start } = options;
  const form = formOf(options);
  if (isPlain(form)) return decodeModelState(bytes, name, { handedOver: true });
  const file = openCoded(bytes, name, form);
  requireSame(file, start, name);
  const layers = new Map<string, LoraLayer>();
  for (const [module, { r, scale }] of Object.entries(file.layers)) {
    const asked = start.lora.get(module);
    if (asked === undefined) throw invalid(name, `the layer "${module}" was not asked for`);
    if (r > asked.r)
      throw invalid(name, `layer "${module}" has rank ${r}, but the round asks for ${asked.r}`);
    layers.set(module, { ...cutLayer(asked, r), scale });
  }
  const shape = {
    lora: [...layers.values()].map((layer) => ({ ...layer, aDims: layer.a.dims, bDims: layer.b.dims })),
    head: [...start.head].map(([tensor, { dims }]) => ({ name: tensor, dims })),
    base: baseEntries(file.names, base, name),
  };
  const ranks = new Map([...layers].map(([module, { r }]) => [module, r] as const));
  const tensors = file.read(wireEntries(shape, form.parts), predictionOf(start, ranks, base));
  return assemble({ ...start, lora: layers, base: new Map() }, tensors, shape.base);
}

/** Exact size in bytes of the update of a site whose trained state has this shape. */
export function updateSizeBytes(shape: StateShape, context: Pick<WireContext, 'config' | 'plan'>): number {
  const form = formOf(context);
  return isPlain(form) ? modelStateSizeBytes(shape) : codedSizeBytes(shape, form);
}

/** Number of model values in that update. */
export function updateValueCount(shape: StateShape, context: Pick<WireContext, 'config' | 'plan'>): number {
  return travellingValues(shape, partsOf(context));
}

function ranksOf({ lora }: ModelState): Map<string, number> {
  return new Map([...lora].map(([module, { r }]) => [module, r]));
}

/** From what a site's values are differences: the start state, and below it the base model. */
function predictionOf(
  start: ModelState,
  ranks: ReadonlyMap<string, number>,
  base: WireBase,
): (name: string) => FloatTensor | undefined {
  const lora = [...ranks].map(([module, r]) => {
    const layer = start.lora.get(module);
    if (layer === undefined) throw new RangeError(`the round's start state has no layer "${module}"`);
    return [module, cutLayer(layer, r)] as const;
  });
  const known = tensorsOf({ lora: new Map(lora), head: start.head, base: start.base });
  return (name) => known.get(name) ?? baseWeightOf(base, name);
}

/** The base model's own weight behind a name in a file. */
export function baseWeightOf({ weights }: WireBase, name: string): FloatTensor | undefined {
  return name.startsWith(basePrefix) ? weights.get(name.slice(basePrefix.length)) : undefined;
}

/** @throws AppError MODEL_FILE_INVALID when the file is of another base model or other classes */
export function requireSame(
  file: { baseSha256: string; classes: readonly string[] },
  expected: Pick<ModelState, 'baseSha256' | 'classes'>,
  name: string,
): void {
  if (file.baseSha256 !== expected.baseSha256) throw invalid(name, 'it belongs to another base model');
  const { classes } = expected;
  const same = file.classes.length === classes.length && classes.every((own, i) => own === file.classes[i]);
  if (!same) throw invalid(name, 'its classes are not those of the run');
}

/** Base weights that a file holds, with the shapes that they must have. @throws AppError MODEL_FILE_INVALID */
export function baseEntries(
  names: readonly string[],
  { weights }: WireBase,
  file: string,
): { name: string; dims: readonly number[] }[] {
  return names
    .filter((name) => name.startsWith(basePrefix))
    .map((name) => {
      const own = name.slice(basePrefix.length);
      const weight = weights.get(own);
      if (weight === undefined) throw invalid(file, `the base model has no weight "${own}"`);
      return { name: own, dims: weight.dims };
    });
}

/** The state with what arrived in place of its own. */
export function assemble(
  state: ModelState,
  tensors: ReadonlyMap<string, FloatTensor>,
  base: readonly { name: string }[],
): ModelState {
  const lora = [...state.lora].map(([module, layer]) => {
    const a = tensors.get(nameOfA(module)) ?? layer.a;
    const b = tensors.get(nameOfB(module)) ?? layer.b;
    return [module, { ...layer, a, b }] as const;
  });
  const head = [...state.head].map(
    ([name, tensor]) => [name, tensors.get(nameOfHead(name)) ?? tensor] as const,
  );
  const weights = base.map(({ name }) => [name, tensors.get(nameOfBase(name))!] as const);
  return { ...state, lora: new Map(lora), head: new Map(head), base: new Map(weights) };
}
