/**
 * What travels between a site and the coordinator: LoRA factors, the head, and (only in `full` and
 * `last-k` stages) base weights. Words are those of Hugging Face PEFT.
 */
import type { FloatTensor } from '../shared/tensor.ts';

/**
 * One adapted layer: ΔW = scale · B·A.
 *
 * Linear layer of weight [out, in]: `a` is [r, in], `b` is [out, r].
 * Convolution of weight [out, in, kh, kw]: `a` is [r, in, kh, kw] (a kh×kw convolution to r channels),
 * `b` is [out, r, 1, 1]. Read as matrices, a is r × (in·kh·kw) and b is out × r in both cases.
 * The scale is stored, not derived from alpha / r, so that ΔW does not change when r does.
 */
export interface LoraLayer {
  readonly module: string;
  readonly r: number;
  readonly scale: number;
  readonly a: FloatTensor;
  readonly b: FloatTensor;
}

export interface ModelState {
  /** SHA-256 of the base model that this state belongs to. */
  readonly baseSha256: string;
  /** Class names in the order of the head's rows. */
  readonly classes: readonly string[];
  /** Adapted layers by module name; empty when only a head was trained. */
  readonly lora: ReadonlyMap<string, LoraLayer>;
  /** `weight` [classes, embedding] and `bias` [classes]. */
  readonly head: ReadonlyMap<string, FloatTensor>;
  /** Base weights that replace those of the base model, by their name in it; empty in LoRA stages. */
  readonly base: ReadonlyMap<string, FloatTensor>;
}

/** Number of values that travel when this state is sent. */
export function countParameters(state: ModelState): number {
  let count = 0;
  for (const layer of state.lora.values()) count += layer.a.data.length + layer.b.data.length;
  for (const tensor of state.head.values()) count += tensor.data.length;
  for (const tensor of state.base.values()) count += tensor.data.length;
  return count;
}
