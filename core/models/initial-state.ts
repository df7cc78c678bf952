/** The state with which a run begins: LoRA factors that change nothing yet and a fresh head. */
import type { LoraLayer, ModelState } from '../lora/model-state.ts';
import type { ModuleSelector } from '../lora/module-pattern.ts';
import { drawSeededRows } from '../lora/seeded-rows.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';
import type { BaseModel } from './base-model.ts';
import { resolveTargetModules } from './target-modules.ts';

export interface InitialStateOptions {
  classes: readonly string[];
  /** See `resolveTargetModules`. */
  targetModules: ModuleSelector;
  excludeModules?: ModuleSelector | undefined;
  /** LoRA rank; 0 means no factors. A module whose smaller side is below r gets that side as its rank. */
  r: number;
  /** Ranks of single modules; `r` for all without it. Not asked when `r` is 0. */
  rankOf?: (module: string) => number;
  /** s of ΔW = s·B·A: one for all, or by module and rank. */
  scale: number | ((module: string, r: number) => number);
  seed: number;
}

/** Standard deviation of the head's first weights: small, so that all classes start about equal. */
const headDeviation = 0.01;

/**
 * A is drawn as PEFT does (`drawSeededRows`) and B zero, so the adapted network starts equal to the base.
 * @throws AppError CONFIG_INVALID for an unknown preset, module or pattern
 */
export function initialState(base: BaseModel, options: InitialStateOptions): ModelState {
  const { classes, targetModules, excludeModules, scale, seed } = options;
  const rankOf = options.rankOf ?? (() => options.r);
  const scaleOf = typeof scale === 'number' ? () => scale : scale;
  const lora = new Map<string, LoraLayer>();
  const layers = options.r > 0 ? resolveTargetModules(base, targetModules, excludeModules) : [];
  for (const { module, kind, weightDims } of layers) {
    const [out = 0, ...inDims] = weightDims;
    const r = Math.min(rankOf(module), out, elementCount(inDims));
    const a = drawSeededRows(seed, module, r, inDims);
    const b = floatTensor(kind === 'conv' ? [out, r, 1, 1] : [out, r]);
    lora.set(module, { module, r, scale: scaleOf(module, r), a, b });
  }
  const random = createRandom(mixSeed(seed, 'head'));
  const head = new Map<string, FloatTensor>([
    ['weight', filled([classes.length, base.embeddingSize], () => random.normal() * headDeviation)],
    ['bias', floatTensor([classes.length])],
  ]);
  return { baseSha256: base.sha256, classes: [...classes], lora, head, base: new Map() };
}

function filled(dims: readonly number[], next: () => number): FloatTensor {
  return floatTensor(dims, Float32Array.from({ length: elementCount(dims) }, next));
}
