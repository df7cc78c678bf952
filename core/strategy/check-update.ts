/** The one place where updates of sites are judged before they may touch the global state. */
import { factorInnerProduct } from '../lora/factor-inner-product.ts';
import { type LoraLayer, type ModelState, shapesAtRank } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';
import { type FloatTensor, isFiniteTensor, sameDims } from '../shared/tensor.ts';
import type { RoundPlan } from './strategy.ts';

/** What an update must fit. */
export interface UpdateExpectation {
  base: Pick<BaseModel, 'sha256' | 'weights' | 'layers'>;
  /** The state that the site's round started from, cut to its rank. */
  global: ModelState;
  plan: Pick<RoundPlan, 'mode'>;
  /** Names of the base weights that train in the round (`trainableWeights`). */
  trained: readonly string[];
  /** Whether sites add noise to what they send. */
  noisy?: boolean;
}

/**
 * Σ of the lengths of a site's sums of embeddings (prototypes.ts), each divided by the number of images that it says: no subject
 * counts for more than 1, and rounding makes that number smaller by a third at most.
 */
const longestPrototypes = 2;

/** How large an update may be: a guard against broken training, wide enough for layers whose own weights are tiny. */
export interface UpdateBounds {
  /** ‖ΔW‖ of a layer and ‖θ‖ of a base weight, as a multiple of the norm of the base model's own weight. */
  relativeNorm: number;
  /**
   * Root mean square of the head's weight and of its bias, and of each factor of a layer of a scale from 1 on; with a
   * smaller scale s factors may be 1/√s times as large. A small product says nothing where factors are averaged apart.
   */
  rootMeanSquare: number;
}

export const defaultUpdateBounds: UpdateBounds = { relativeNorm: 100, rootMeanSquare: 100 };

/**
 * Refuses an update that is of another base or other classes, has other tensors, shapes, ranks or scales than the
 * round asks for, holds NaN or infinity, or is outsize. What passes can be merged by every strategy: one wrong
 * update must not fail the round of the others.
 * @throws AppError UPDATE_REJECTED with a plain reason
 */
export function checkUpdate(
  update: ModelState,
  expected: UpdateExpectation,
  bounds: UpdateBounds = defaultUpdateBounds,
): void {
  const { base, global } = expected;
  if (update.baseSha256 !== base.sha256) throw rejected('it was trained on another base model');
  checkAgainstGlobal(update, global);
  checkRanks(update, global);
  checkBaseNames(update, expected);
  checkNorms(update, base, bounds);
  if (expected.plan.mode === 'prototypes' && !expected.noisy) checkPrototypes(update.head.get('weight')!);
}

/** Longer sums would count for more images than the site says that it has. */
function checkPrototypes({ dims: [classes = 0, size = 0], data }: FloatTensor): void {
  let length = 0;
  for (let label = 0; label < classes; label++)
    length += norm(data.subarray(label * size, (label + 1) * size));
  if (length > longestPrototypes) throw rejected('its class means are longer than so many images can be');
}

/**
 * The part of {@link checkUpdate} that needs nothing but the global state; strategies call it for each update.
 * @throws AppError UPDATE_REJECTED
 */
export function checkAgainstGlobal(update: ModelState, global: ModelState): void {
  if (update.baseSha256 !== global.baseSha256) throw rejected('it was trained on another base model');
  const sameClasses =
    update.classes.length === global.classes.length &&
    update.classes.every((name, index) => name === global.classes[index]);
  if (!sameClasses) throw rejected('its classes are not those of the run');

  for (const [module, layer] of global.lora) {
    const sent = update.lora.get(module);
    if (sent !== undefined) checkLayer(sent, layer);
    else if (layer.r > 0) throw rejected(`the layer "${module}" is missing`);
  }
  for (const module of update.lora.keys()) {
    if (!global.lora.has(module)) throw rejected(`the layer "${module}" was not asked for`);
  }
  checkTensors('the head', update.head, global.head);
  for (const name of global.head.keys()) {
    if (!update.head.has(name)) throw rejected(`"${name}" of the head is missing`);
  }
  for (const [name, tensor] of update.base) checkFinite(`base weight "${name}"`, tensor);
}

function checkLayer(sent: LoraLayer, asked: LoraLayer): void {
  const { module, r, scale, a, b } = sent;
  const wanted = shapesAtRank(asked, r);
  if (!(sameDims(a.dims, wanted.a.dims) && sameDims(b.dims, wanted.b.dims)))
    throw rejected(`the factors of layer "${module}" have the wrong shape`);
  if (r > asked.r) throw rejected(`layer "${module}" has rank ${r}, but the round asks for ${asked.r}`);
  if (!(Number.isFinite(scale) && scale > 0)) throw rejected(`layer "${module}" has the scale ${scale}`);
  checkFinite(`layer "${module}"`, a);
  checkFinite(`layer "${module}"`, b);
}

function checkTensors(
  what: string,
  sent: ReadonlyMap<string, FloatTensor>,
  asked: ReadonlyMap<string, FloatTensor>,
): void {
  for (const [name, tensor] of sent) {
    const wanted = asked.get(name);
    if (wanted === undefined) throw rejected(`"${name}" of ${what} was not asked for`);
    if (!sameDims(tensor.dims, wanted.dims)) {
      const shapes = `[${tensor.dims.join(', ')}] instead of [${wanted.dims.join(', ')}]`;
      throw rejected(`"${name}" of ${what} has the shape ${shapes}`);
    }
    checkFinite(`"${name}" of ${what}`, tensor);
  }
}

function checkFinite(what: string, tensor: FloatTensor): void {
  if (!isFiniteTensor(tensor)) throw rejected(`${what} holds values that are not finite numbers`);
}

function checkRanks(update: ModelState, { lora }: ModelState): void {
  for (const [module, { r, scale }] of update.lora) {
    const asked = lora.get(module)!;
    if (r === asked.r && scale === asked.scale) continue;
    throw rejected(
      `layer "${module}" has rank ${r} and scale ${scale} instead of ${asked.r} and ${asked.scale}`,
    );
  }
}

function checkBaseNames(update: ModelState, { base, plan: { mode }, trained }: UpdateExpectation): void {
  if (mode === 'lora' || mode === 'head' || mode === 'prototypes') {
    if (update.base.size > 0)
      throw rejected('it holds weights of the base model, which stay fixed in this round');
    return;
  }
  if (update.base.size === 0) throw rejected('the weights of the base model are missing');
  const asked = new Map(trained.map((name) => [name, base.weights.get(name)!]));
  checkTensors('the base model', update.base, asked);
  if (update.base.size < asked.size) {
    throw rejected(`it holds ${update.base.size} of the ${asked.size} weights of the base model that train`);
  }
}

function checkNorms(update: ModelState, base: UpdateExpectation['base'], bounds: UpdateBounds): void {
  const weightOf = new Map(base.layers.map((layer) => [layer.module, base.weights.get(layer.weight)]));
  for (const [module, layer] of update.lora) {
    const weight = weightOf.get(module);
    if (weight === undefined || layer.r === 0) continue;
    // Rounding can leave a little below zero.
    const size = Math.sqrt(Math.max(0, factorInnerProduct(layer, layer)));
    checkRatio(`layer "${module}"`, size / baseNorm(weight), bounds);
    const most = bounds.rootMeanSquare / Math.min(1, Math.sqrt(layer.scale));
    checkSize(`A of layer "${module}"`, layer.a, most);
    checkSize(`B of layer "${module}"`, layer.b, most);
  }
  for (const [name, tensor] of update.base) {
    // A bias may start at zero; a norm of 1 is nothing unusual for it.
    const own = Math.max(1, baseNorm(base.weights.get(name)!));
    checkRatio(`base weight "${name}"`, norm(tensor.data) / own, bounds);
  }
  for (const [name, tensor] of update.head) checkSize(`"${name}" of the head`, tensor, bounds.rootMeanSquare);
}

function checkSize(what: string, tensor: FloatTensor, most: number): void {
  const size = norm(tensor.data) / Math.sqrt(Math.max(1, tensor.data.length));
  if (size > most)
    throw rejected(`${what} is too large (${size.toPrecision(3)}, at most ${most.toPrecision(3)})`);
}

function checkRatio(what: string, ratio: number, { relativeNorm }: UpdateBounds): void {
  // Written so that NaN (an all-zero base weight and no change) is no reason to refuse.
  if (ratio > relativeNorm) {
    const times = `${ratio.toPrecision(3)} times that of the base model, at most ${relativeNorm}`;
    throw rejected(`the change of ${what} is too large (${times})`);
  }
}

/** Norms of base weights, which are the same for every update of a run. */
const baseNorms = new WeakMap<FloatTensor, number>();

function baseNorm(weight: FloatTensor): number {
  const known = baseNorms.get(weight) ?? norm(weight.data);
  baseNorms.set(weight, known);
  return known;
}

function norm(data: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i]! * data[i]!;
  return Math.sqrt(sum);
}

/** UPDATE_REJECTED: "The update was rejected: …". */
export function rejected(reason: string): AppError {
  return new AppError('UPDATE_REJECTED', `The update was rejected: ${reason}.`);
}
