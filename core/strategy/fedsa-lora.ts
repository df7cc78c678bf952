/**
 * Baseline: both factors train, A alone travels and is averaged, each site keeps its own B (FedSA-LoRA, Guo et al.
 * 2024, arXiv 2410.01463).
 *
 *     A ← Σ w_k A_k,   site k goes on with (A, B_k)
 *
 * So every site ends with a model of its own. B is zero in the global state: without a site's B the factors of this
 * state change nothing, and an export of it is the base model with the averaged head. A site that joins late, or lost
 * its memory, starts with B = 0. The head is averaged unless the run keeps it local.
 */
import { averaging } from './baseline.ts';
import type { Strategy } from './strategy.ts';

export const fedSaLora: Strategy = {
  ...averaging({ mode: 'lora', sends: 'a' }),
  name: 'fedsa-lora',
};
