import {
  isFactorName,
  type LoraLayer,
  type ModelState,
  tensorsOf,
  withTensors,
} from '../../lora/model-state.ts';
import { invalid } from '../../lora/safetensors.ts';
import { cutLayer } from '../../lora/stack-factors.ts';
import { decodeModelState, encodeModelState } from '../../lora/state-file.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import { getStrategy } from '../registry.ts';
import { encodeCoded, openCoded } from './coded-file.ts';
import {
  baseWeightOf,
  isPlainFile,
  type Residual,
  replacedWeights,
  requireSame,
  updateForm,
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
 * @throws AppError TRAINING_FAILED when values are not finite (but for a plain file, which the coordinator judges)
 * @throws RangeError when `trained` has a layer that `start` lacks
 */
export function encodeUpdate(options: EncodeUpdateOptions): EncodedUpdate {
  const { config, base, start, trained, residual } = options;
  const form = updateForm(options);
  if (isPlainFile(form)) return { bytes: encodeModelState(trained), residual: null };
  const lora = new Map<string, LoraLayer>();
  for (const { module, r } of trained.lora.values()) {
    const layer = start.lora.get(module);
    if (layer === undefined) throw new RangeError(`the round's start state has no layer "${module}"`);
    lora.set(module, cutLayer(layer, r));
  }
  const feedback = config.wire.errorFeedback && form.precision !== 'fp32';
  // New factors are made of summed products: what rounding took from the old ones means nothing to them.
  const continues = getStrategy(config.strategy).traits(config).merges === 'values';
  const file = encodeCoded(trained, tensorsOf(trained), form, {
    predicted: predictionOf({ ...start, lora }, base),
    residual: residual ?? undefined,
    carries: (name) => feedback && (continues || !isFactorName(name)),
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
  const form = updateForm(options);
  if (isPlainFile(form)) return decodeModelState(bytes, name, { handedOver: true });
  const file = openCoded(bytes, name, form);
  requireSame(file, start, name);
  const lora = new Map<string, LoraLayer>();
  for (const [module, { r, scale }] of Object.entries(file.layers)) {
    const asked = start.lora.get(module);
    if (asked === undefined) throw invalid(name, `the layer "${module}" was not asked for`);
    if (r > asked.r)
      throw invalid(name, `layer "${module}" has rank ${r}, but the round asks for ${asked.r}`);
    lora.set(module, { ...cutLayer(asked, r), scale });
  }
  const own = { ...start, lora, base: replacedWeights(file.names, base, name) };
  return withTensors(own, file.read(wireEntries(own, form.parts), predictionOf({ ...start, lora }, base)));
}

/** From what a site's values are differences: the start state at the site's ranks, and below it the base model. */
function predictionOf(start: ModelState, base: WireBase): (name: string) => FloatTensor | undefined {
  const known = tensorsOf(start);
  return (name) => known.get(name) ?? baseWeightOf(base, name);
}
