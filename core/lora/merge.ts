/** Adapters written into the weights, W + s·B·A. Sums are rounded once, from float64 to float32. */
import type { Graph } from '../graph/graph.ts';
import { AppError } from '../shared/errors.ts';
import { elementCount, type FloatTensor, floatTensor, sameDims } from '../shared/tensor.ts';
import type { LoraTarget } from './inject.ts';
import type { LoraLayer, ModelState } from './model-state.ts';

/** What merging needs to know of a base model; every `BaseModel` has it. */
export interface MergeBase {
  readonly sha256: string;
  readonly weights: ReadonlyMap<string, FloatTensor>;
  readonly layers: readonly LoraTarget[];
  buildGraph(batch: number): Graph;
}

/**
 * W + ΔW: the weight of a network that needs no LoRA any more. The same layer with the scale −s takes it out again, up
 * to the rounding of one sum. Who needs the very bytes keeps the weights of the base model, which merging does not touch.
 * @param weight in PEFT's layout, [out, in] or [out, in, kh, kw]
 * @throws AppError SHAPE_MISMATCH
 */
export const mergeLora = (weight: FloatTensor, layer: LoraLayer): FloatTensor =>
  addDelta(weight, layer, false);

/**
 * All weights of the base model with a state written into them: base weights that the state replaces, and ΔW of
 * every adapted layer on top. Weights that do not change are the base model's own tensors; none of those is written to.
 * @throws AppError SHAPE_MISMATCH when the state is of another base, or names a layer or shape that it does not have
 */
export function mergeState(base: MergeBase, state: ModelState): Map<string, FloatTensor> {
  if (state.baseSha256 !== base.sha256) {
    throw new AppError('SHAPE_MISMATCH', 'The adapter does not belong to this base model.');
  }
  const weights = new Map(base.weights);
  for (const [name, tensor] of state.base) {
    const own = weights.get(name);
    if (own === undefined || !sameDims(own.dims, tensor.dims)) {
      throw new AppError(
        'SHAPE_MISMATCH',
        `The adapter replaces a weight "${name}" of shape [${tensor.dims.join(', ')}], which the base model does not have.`,
      );
    }
    weights.set(name, tensor);
  }
  const targets = new Map(base.layers.map((target) => [target.module, target]));
  let graph: Graph | undefined;
  for (const layer of state.lora.values()) {
    if (layer.r === 0) continue;
    const target = targets.get(layer.module);
    const weight = target === undefined ? undefined : weights.get(target.weight);
    if (target === undefined || weight === undefined) {
      throw new AppError('SHAPE_MISMATCH', `The base model has no layer "${layer.module}" to adapt.`);
    }
    // Only a square weight does not tell by its shape which way round it is stored.
    let inputFirst = !sameDims(weight.dims, target.weightDims);
    if (target.kind === 'linear' && weight.dims[0] === weight.dims[1]) {
      graph ??= base.buildGraph(1);
      inputFirst = isInputFirst(graph, target);
    }
    weights.set(target.weight, addDelta(weight, layer, inputFirst));
  }
  return weights;
}

/**
 * Whether the graph stores a linear layer's weight as [in, out], not as PEFT counts.
 * @throws AppError SHAPE_MISMATCH when no linear operator reads it
 */
function isInputFirst(graph: Graph, { module, weight }: Pick<LoraTarget, 'module' | 'weight'>): boolean {
  const uses = graph.nodes.filter((node) => node.inputs.includes(weight));
  for (const node of uses) {
    if (node.op === 'Transpose') return false;
    if (node.op === 'MatMul' && node.inputs[1] === weight) return true;
    if (node.op === 'Gemm' && node.inputs[1] === weight) return node.attributes['transB'] !== 1;
  }
  throw new AppError('SHAPE_MISMATCH', `The base model has no layer "${module}" to adapt.`);
}

/** @param inputFirst the weight is stored as [in, out] */
function addDelta(weight: FloatTensor, layer: LoraLayer, inputFirst: boolean): FloatTensor {
  const { dims, values } = exactDelta(layer);
  const expected = inputFirst ? [...dims].reverse() : dims;
  if (!sameDims(weight.dims, expected)) {
    throw new AppError(
      'SHAPE_MISMATCH',
      `The LoRA factors of "${layer.module}" belong to a weight of shape [${expected.join(', ')}], ` +
        `but the base model has [${weight.dims.join(', ')}].`,
    );
  }
  const [rows = 1, columns = 1] = dims;
  const sum = new Float32Array(weight.data.length);
  for (let index = 0; index < sum.length; index++) {
    const at = inputFirst ? (index % rows) * columns + Math.floor(index / rows) : index;
    sum[index] = weight.data[index]! + values[at]!;
  }
  return floatTensor(weight.dims, sum);
}

/** ΔW = s·B·A as a matrix of the layer's weight, [out, in] or [out, in, kh, kw], not rounded. */
export function exactDelta(layer: LoraLayer): { dims: number[]; values: Float64Array } {
  const { a, b, r, scale } = layer;
  const [rows, inDims] = [b.dims[0]!, a.dims.slice(1)];
  const cols = elementCount(inDims);
  const delta = new Float64Array(rows * cols);
  for (let i = 0; i < rows; i++) {
    const row = delta.subarray(i * cols, (i + 1) * cols);
    for (let k = 0; k < r; k++)
      addScaled(row, scale * b.data[i * r + k]!, a.data.subarray(k * cols, (k + 1) * cols));
  }
  return { dims: [rows, ...inDims], values: delta };
}

function addScaled(target: Float64Array, factor: number, values: Float32Array): void {
  for (let j = 0; j < target.length; j++) target[j]! += factor * values[j]!;
}
