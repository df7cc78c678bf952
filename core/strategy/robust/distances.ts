/**
 * How large updates are and how far they lie apart, in the space in which their strategy merges them. Where factors are
 * averaged, factors are compared value by value: two sites may have the same ΔW from factors whose mean is another one.
 * Where products are summed, ΔW is compared, by inner products of factors; it is never formed.
 */
import { setImmediate } from 'node:timers/promises';
import { factorInnerProduct } from '../../lora/factor-inner-product.ts';
import type { LoraLayer, ModelState } from '../../lora/model-state.ts';
import { stackFactors } from '../../lora/stack-factors.ts';
import { type FloatTensor, floatTensor } from '../../shared/tensor.ts';
import { type ChangeOptions, changeNorm, scaleChange } from '../privacy/change.ts';
import type { StrategyTraits } from '../strategy.ts';
import { sentTensors, type Travels } from '../what-travels.ts';

/** The space in which updates are merged. */
type Space = Pick<StrategyTraits, 'merges'>;

/**
 * Squared distances between updates, a symmetric matrix with rows in the order of `states`; equal to those between their
 * changes. Factors of lower rank count as padded with zeros. Holds all states, and takes n²/2 comparisons of whole
 * updates: for tens of sites, not thousands.
 */
export async function squaredDistances(
  states: readonly ModelState[],
  travels: Travels & Space,
): Promise<Float64Array[]> {
  const products = travels.merges === 'products';
  const sites = states.map((state) => ({
    // Of the layers only what is compared value by value.
    tensors: sentTensors(products ? { ...state, lora: new Map() } : state, travels),
    own: products ? layerProduct(state, state) : 0,
  }));
  const matrix = states.map(() => new Float64Array(states.length));
  for (const [i, x] of sites.entries()) {
    for (const [j, y] of sites.slice(0, i).entries()) {
      // Lets a broker in the same process speak.
      await setImmediate();
      const values = squaredDistanceOfTensors(x.tensors, y.tensors);
      // Rounding can leave a little below zero.
      const layers = products ? Math.max(0, x.own + y.own - 2 * layerProduct(states[i]!, states[j]!)) : 0;
      matrix[i]![j] = values + layers;
      matrix[j]![i] = values + layers;
    }
  }
  return matrix;
}

/**
 * L2 norm of an update's change in that space.
 * @throws AppError UPDATE_REJECTED when the update does not fit the start state
 */
export function mergedChangeNorm(
  state: ModelState,
  start: ModelState,
  options: ChangeOptions & Space,
): number {
  if (options.merges === 'values') return changeNorm(state, start, options);
  const values = changeNorm({ ...state, lora: new Map() }, start, options);
  const layers = layerProduct(state, state) + layerProduct(start, start) - 2 * layerProduct(state, start);
  return Math.sqrt(values ** 2 + Math.max(0, layers));
}

/**
 * The update with its change multiplied in that space. Where products are summed, a layer becomes the stack of both
 * states' factors, whose ΔW is start + factor · (state − start) exactly; its rank is the sum of both ranks.
 */
export function scaleMergedChange(
  state: ModelState,
  start: ModelState,
  factor: number,
  options: ChangeOptions & Space,
): ModelState {
  if (factor === 1 || options.merges === 'values') {
    return scaleChange(state, start, factor, options);
  }
  const values = scaleChange({ ...state, lora: new Map() }, start, factor, options);
  const lora = new Map<string, LoraLayer>();
  for (const [module, layer] of state.lora) {
    const own = start.lora.get(module);
    lora.set(module, own === undefined ? layer : mixedLayer(layer, factor, own));
  }
  return { ...values, lora };
}

/** factor · layer + (1 − factor) · own, as stacked factors with the scale of `layer`. */
function mixedLayer(layer: LoraLayer, factor: number, own: LoraLayer): LoraLayer {
  const ofOwn = ((1 - factor) * own.scale) / layer.scale;
  const isZero = own.b.data.every((value) => value === 0);
  const parts = [{ factors: layer, weight: factor }, ...(isZero ? [] : [{ factors: own, weight: ofOwn }])];
  const stack = stackFactors(parts);
  return { ...layer, ...stack, r: stack.a.dims[0]! };
}

/** Σ over the layers that both have of ⟨ΔW, ΔW'⟩. */
function layerProduct(x: ModelState, y: ModelState): number {
  let sum = 0;
  for (const [module, layer] of x.lora) {
    const other = y.lora.get(module);
    if (other !== undefined) sum += factorInnerProduct(layer, other);
  }
  return sum;
}

function squaredDistanceOfTensors(
  x: ReadonlyMap<string, FloatTensor>,
  y: ReadonlyMap<string, FloatTensor>,
): number {
  let sum = 0;
  for (const [name, tensor] of x) sum += paddedSquaredDistance(tensor, y.get(name) ?? floatTensor([0]));
  for (const [name, { data }] of y) if (!x.has(name)) sum += data.reduce((own, v) => own + v * v, 0);
  return sum;
}

/** Σ (x − y)² with zeros where one has fewer rows (A) or columns (B) than the other. */
function paddedSquaredDistance(x: FloatTensor, y: FloatTensor): number {
  const [large, small] = x.data.length >= y.data.length ? [x, y] : [y, x];
  // Rows of A are in front of one another; the columns of B lie within each of its rows.
  const isB = large.dims[0] === small.dims[0];
  const width = isB ? large.data.length / Math.max(1, large.dims[0]!) : large.data.length;
  const own = isB ? small.data.length / Math.max(1, large.dims[0]!) : small.data.length;
  let sum = 0;
  for (let i = 0; i < large.data.length; i++) {
    const column = i % width;
    const other = column < own ? small.data[Math.floor(i / width) * own + column]! : 0;
    sum += (large.data[i]! - other) ** 2;
  }
  return sum;
}
