/**
 * A head made of class means, as FedNCM starts one (Legate et al. 2023, arXiv 2306.03937; docs/method.md): each site sends, for
 * each class of enough subjects, the sum of its subjects' mean embeddings of length 1, divided by the number of images by which
 * the coordinator weighs the site. The mean with these weights is, but for a factor, the sum over all subjects of all sites, so
 * its direction is that of the class mean.
 */
import type { RunConfig } from '../config/run-config.ts';
import type { ModelState } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { createRandom, mixSeed } from '../shared/random.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';

/** Root mean square of a row: with it a step of the usual head learning rate turns a row by about a hundredth. */
const rowDeviation = 1;

/**
 * What a cosine of 1 becomes as a logit. Of trained and untrained networks on photographs and drawings the loss of class means is
 * lowest at 32 to 64 (docs/method.md); at several times that it begins so sure of its mistakes that training first spoils what
 * the means know.
 */
const logitScale = 48;

/** Length of a row: whatever a base's embeddings are long, the logits begin in one range. A head on cosines has its own scale. */
function rowLength(
  size: number,
  { training }: StartConfig,
  { headGain, embeddingLength }: StartBase,
): number {
  if (training.head !== 'softmax' || embeddingLength === undefined) return rowDeviation * Math.sqrt(size);
  return logitScale / (headGain * embeddingLength);
}

type StartConfig = Pick<RunConfig, 'seed' | 'training'>;
type StartBase = Pick<BaseModel, 'headGain' | 'embeddingLength'>;

/**
 * @param sums `weight` [classes, embedding]: sums of embeddings of length 1, by any positive factor
 * @returns rows of one length in the direction of the sums; at random where no site could send any
 */
export function headFromSums(
  sums: ReadonlyMap<string, FloatTensor>,
  config: StartConfig,
  base: StartBase,
): Map<string, FloatTensor> {
  const { dims, data } = sums.get('weight')!;
  const [classes = 0, size = 0] = dims;
  const length = rowLength(size, config, base);
  const rows = new Float32Array(classes * size);
  for (let label = 0; label < classes; label++) {
    const sum = data.subarray(label * size, (label + 1) * size);
    const direction = sum.some((value) => value !== 0) ? sum : drawnRow(config.seed, label, size);
    let square = 0;
    for (const value of direction) square += value * value;
    const factor = length / Math.sqrt(square);
    for (let i = 0; i < size; i++) rows[label * size + i] = direction[i]! * factor;
  }
  return new Map([
    ['weight', floatTensor(dims, rows)],
    ['bias', floatTensor([classes])],
  ]);
}

/** The state that a site writes whose classes all have too few subjects: sums of nobody. */
export function noPrototypes(start: ModelState): ModelState {
  const head = new Map([...start.head].map(([name, { dims }]) => [name, floatTensor(dims)]));
  return { ...start, head };
}

function drawnRow(seed: number, label: number, size: number): Float32Array {
  const random = createRandom(mixSeed(seed, 'prototype', label));
  return Float32Array.from({ length: size }, () => random.normal());
}
