/**
 * What the leak test of a base model measured (core/policy/leak-test.ts), and when that is too much. docs/models.md
 * says what the figures mean and has those of several networks.
 */
import { z } from 'zod';
import { plural } from '../shared/text.ts';

/** Goes up whenever the faces, the decoder or the scores change: a report of another version is measured again. */
export const leakTestVersion = 1;

const score = z.number().min(-1).max(1);
const count = z
  .int()
  .positive()
  .max(2 ** 31);

export const leakReportSchema = z.strictObject({
  testVersion: z.int().positive().max(1_000),
  /**
   * How well a held-out face is rebuilt: Pearson correlation of its deviation from the mean face with the original's, in
   * grey at 32 × 32; the mean over the held-out faces. 1 is the image itself, 0 nothing.
   */
  correlation: score,
  /** Mean structural similarity (SSIM) of rebuilt and original held-out faces. */
  ssim: score,
  /** The same for the mean face alone, which is what one sees who knows nothing about the image. */
  meanFaceSsim: score,
  /** Numbers in the embedding. */
  embeddingSize: count,
  /** Numbers in the image that the network takes: 3 · side². */
  inputValues: count,
  /** Convolutions and matrix products with weights on the longest way from the image to the embedding. */
  layers: z.int().nonnegative().max(1_000_000),
  heldOutFaces: count,
  /** Mean length of an embedding of the first of these faces. Absent in reports of before it was measured. */
  embeddingLength: z.number().positive().max(1e30).exactOptional(),
});
export type LeakReport = z.infer<typeof leakReportSchema>;

export interface LeakLimits {
  /** Above it the embedding says too much about the image. */
  readonly correlation: number;
  readonly ssim: number;
  /** Largest embedding, as a share of the numbers in the image. */
  readonly embeddingShare: number;
  /** Fewest layers with weights. */
  readonly layers: number;
}

/**
 * Correlation and similarity lie between what was measured of networks that compress (up to 0.50 and 0.23) and of
 * thumbnails, projections and copies of the image (from 0.65 and 0.36); docs/models.md has the table. Width and depth
 * catch what hides the image from a linear decoder in the plainest ways.
 */
export const defaultLeakLimits: LeakLimits = {
  correlation: 0.6,
  ssim: 0.4,
  embeddingShare: 1 / 8,
  layers: 3,
};

/** Embedding width as a share of the input. */
export const embeddingShare = ({ embeddingSize, inputValues }: LeakReport): number =>
  embeddingSize / inputValues;

/** Everything that speaks against the network, each a clause that continues "…, because"; empty when nothing does. */
export function leakReasons(report: LeakReport, limits: LeakLimits = defaultLeakLimits): string[] {
  const { correlation, ssim, embeddingSize, inputValues, layers } = report;
  const reasons: string[] = [];
  if (correlation > limits.correlation) {
    reasons.push(
      `faces rebuilt from its embedding correlate ${correlation.toFixed(2)} with the originals (limit ${limits.correlation})`,
    );
  }
  if (ssim > limits.ssim) {
    reasons.push(
      `faces rebuilt from its embedding reach a structural similarity of ${ssim.toFixed(2)} (limit ${limits.ssim})`,
    );
  }
  if (embeddingShare(report) > limits.embeddingShare) {
    const most = Math.floor(inputValues * limits.embeddingShare);
    reasons.push(`its embedding has ${embeddingSize} numbers for an image of ${inputValues} (limit ${most})`);
  }
  if (layers < limits.layers) {
    reasons.push(
      `it has ${plural(layers, 'layer')} with weights between image and embedding (at least ${limits.layers})`,
    );
  }
  return reasons;
}

export function hardlyCompresses(report: LeakReport, limits: LeakLimits = defaultLeakLimits): boolean {
  return leakReasons(report, limits).length > 0;
}

/** For the people who are asked for approval. */
const grouped = (count: number) => count.toLocaleString('en-GB');

export function describeLeak({ correlation, embeddingSize, inputValues, layers }: LeakReport): string {
  const rebuilt = `Faces rebuilt from what it computes correlate ${correlation.toFixed(2)} with the originals (1 is the photograph itself)`;
  return `${rebuilt}; it makes ${grouped(embeddingSize)} numbers of ${grouped(inputValues)}, in ${plural(layers, 'layer')}.`;
}
