/**
 * Baseline: A stays as it was drawn at the start of the run; B alone trains, travels and is averaged (FFA-LoRA, Sun et
 * al. 2024, arXiv 2403.12313).
 *
 *     B ← Σ w_k B_k   and with one A for all   B·A = Σ w_k (B_k·A)
 *
 * So the mean of factors is exact, and half of the values travel; the price is that ΔW keeps to the rows of a random A.
 * A follows from the run's seed at every site and never travels. The paper draws A from a normal distribution; here it
 * is PEFT's uniform one, as for all strategies.
 */
import { averaging } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const ffaLora: Strategy = {
  ...averaging({ mode: 'lora', trains: 'b', sends: 'b' }),
  name: 'ffa-lora',
};
