/** The head on an embedding and its loss: a softmax classifier, or one on cosines, with or without an additive angular margin. */
import type { GraphBuilder } from '../graph/graph-builder.ts';

/** Names of the inputs that take the head. */
const headWeight = 'head.weight';
const headBias = 'head.bias';

/**
 * ArcFace (Deng et al. 2019, arXiv 1801.07698): logits are scale · cos θ, and scale · cos(θ + margin) of the right class. With a
 * margin of 0 a cosine head.
 */
export interface ArcShape {
  scale: number;
  /** In radians. */
  margin: number;
}

export interface HeadShape {
  classes: number;
  embeddingSize: number;
  /** Factor on the embedding of a softmax head. */
  headGain: number;
  /** Absent: a softmax head. */
  arc?: ArcShape | undefined;
}

export interface LossShape extends HeadShape {
  batch: number;
  labelSmoothing: number;
}

/** Below this, 1 − cos² is rounding; it also keeps the slope of the square root finite. */
const smallestSineSquare = 1e-6;

/** Inputs of the head that train: one on cosines has no bias. */
export function headInputs(arc: ArcShape | undefined): string[] {
  return arc === undefined ? [headWeight, headBias] : [headWeight];
}

/**
 * Appends the head's inputs and its logits without margin: W·(gain·x) + b, or scale · cos θ.
 * @param embedding [batch, embeddingSize]
 * @returns `logits` [batch, classes]; `cosines` of the same shape for a head on cosines
 */
export function appendHead(
  builder: GraphBuilder,
  embedding: string,
  { classes, embeddingSize, headGain, arc }: HeadShape,
): { logits: string; cosines?: string } {
  const weight = builder.input(headWeight, 'float32', [classes, embeddingSize]);
  if (arc === undefined) {
    const bias = builder.input(headBias, 'float32', [classes]);
    const features = builder.mul(embedding, builder.scalar(headGain));
    return { logits: builder.gemm(features, weight, bias, { transB: true }) };
  }
  const cosines = builder.gemm(builder.unitRows(embedding), builder.unitRows(weight), undefined, {
    transB: true,
  });
  return { logits: builder.mul(cosines, builder.scalar(arc.scale)), cosines };
}

/**
 * Appends the head and its loss Σ sampleWeights · cross entropy, with smoothed labels and logits adjusted by a
 * class prior. Inputs `labels` int64 [batch], `sampleWeights` [batch] and `classPrior` [classes].
 * @returns `loss`, a scalar, and `logits` [batch, classes] without margin and prior
 */
export function appendLoss(
  builder: GraphBuilder,
  embedding: string,
  shape: LossShape,
): { loss: string; logits: string } {
  const { classes, batch, labelSmoothing, arc } = shape;
  const { logits, cosines } = appendHead(builder, embedding, shape);
  const labels = builder.input('labels', 'int64', [batch]);
  const sampleWeights = builder.input('sampleWeights', 'float32', [batch]);
  const prior = builder.input('classPrior', 'float32', [classes]);
  const hits = builder.oneHot(labels, classes);
  const trained =
    arc === undefined || arc.margin === 0 || cosines === undefined
      ? logits
      : withMargin(builder, cosines, hits, arc);
  // Smoothed by the prior, so that what smoothing pulls towards is what the adjusted logits say by themselves.
  const spread = builder.mul(prior, builder.scalar(labelSmoothing));
  const targets = builder.add(builder.mul(hits, builder.scalar(1 - labelSmoothing)), spread);
  const adjusted = builder.add(trained, builder.log(prior));
  const products = builder.mul(builder.logSoftmax(adjusted), targets);
  const losses = builder.neg(builder.reduceSum(products, [1], false));
  return { loss: builder.reduceSum(builder.mul(losses, sampleWeights), undefined, false), logits };
}

/**
 * cos(θ + m) = cos θ cos m − sin θ sin m falls only while θ + m < π; past that the straight line
 * cos θ − m sin m takes its place, so that the loss still falls with θ (the paper's reference code).
 */
function withMargin(
  builder: GraphBuilder,
  cosines: string,
  hits: string,
  { scale, margin }: ArcShape,
): string {
  const floor = builder.scalar(smallestSineSquare);
  const squares = builder.sub(builder.scalar(1 - smallestSineSquare), builder.mul(cosines, cosines));
  const sines = builder.sqrt(builder.add(builder.relu(squares), floor));
  const shifted = builder.sub(
    builder.mul(cosines, builder.scalar(Math.cos(margin))),
    builder.mul(sines, builder.scalar(Math.sin(margin))),
  );
  const line = builder.sub(cosines, builder.scalar(margin * Math.sin(margin)));
  const inReach = builder.greater(cosines, builder.scalar(-Math.cos(margin)));
  const harder = builder.sub(builder.where(inReach, shifted, line), cosines);
  return builder.mul(builder.add(cosines, builder.mul(hits, harder)), builder.scalar(scale));
}
