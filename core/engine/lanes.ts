/**
 * How many threads of the trainer compute parts of a batch at the same time, each with a session of its own. See
 * docs/decisions/0005.
 */
import type { DeviceKind, EngineName } from './engine.ts';
import type { GraphFacts } from './graph-facts.ts';

/** What decides whether lanes pay, beside the size of a step. */
export interface LaneQuestion {
  engine: EngineName;
  device: DeviceKind;
  threads: number;
  /** Images computed at once, by all lanes together. */
  microBatch: number;
  /** Of the training graph, for any number of images. */
  facts: () => Pick<GraphFacts, 'weightBytes' | 'outputBytes' | 'convolutionShare'>;
}

/** With fewer images the operators of a lane are too small. */
const fewestImages = 4;

/** Every lane has its own copy of the weights (and packs them for its own use): beyond that they cost too much memory. */
const mostWeightBytes = 64 * 2 ** 20;

/** Gradients are summed by one thread: with those of a whole network that takes too long. */
const mostOutputBytes = 16 * 2 ** 20;

/**
 * Lanes pay for convolutional networks: their frozen convolutions fill a thread, but the many small operators of LoRA
 * between them use one thread only, or stop all others at their end. Transformers are long products that two threads
 * of one session share better than two lanes do. One thread never has lanes: several trainers may share the machine.
 */
export function chooseLanes({ engine, device, threads, microBatch, facts }: LaneQuestion): number {
  const most = lanesWithin(threads, microBatch);
  if (engine !== 'onnxruntime' || device !== 'cpu' || most === 1) return 1;
  const { convolutionShare, weightBytes, outputBytes } = facts();
  const isSmall = weightBytes <= mostWeightBytes && outputBytes <= mostOutputBytes;
  return convolutionShare > 0.5 && isSmall ? most : 1;
}

/** The most lanes that so many images at once are worth. */
export function lanesWithin(lanes: number, microBatch: number): number {
  return Math.max(1, Math.min(lanes, Math.floor(microBatch / fewestImages)));
}

/** Intra-op threads of one lane. */
export function threadsPerLane({ threads, lanes }: { threads: number; lanes: number }): number {
  return Math.max(1, Math.floor(threads / lanes));
}

/** Images that one lane computes at once. */
export function imagesPerLane({ microBatch, lanes }: { microBatch: number; lanes: number }): number {
  return Math.ceil(microBatch / lanes);
}
