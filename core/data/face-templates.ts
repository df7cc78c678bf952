/** Where eyes, nose and mouth are to lie in the square that a base model takes. */
import type { Alignment } from '../config/alignment.ts';
import { fitSimilarity, type Point, type Similarity } from '../linalg/similarity-transform.ts';

/**
 * The centres of the eyes, the tip of the nose and the corners of the mouth; left is the image's left. In pixels; the centre of
 * the first pixel is 0, as OpenCV counts.
 */
export type FiveLandmarks = readonly [Point, Point, Point, Point, Point];

interface FaceTemplate {
  /** Side of the square that the points are given for. */
  readonly side: number;
  readonly points: FiveLandmarks;
}

const point = (x: number, y: number): Point => ({ x, y });

/**
 * ArcFace's own: insightface, python-package/insightface/utils/face_align.py, `arcface_dst`. All networks of that family were
 * trained on faces warped to it.
 */
export const arcfaceTemplate: FaceTemplate = {
  side: 112,
  points: [
    point(38.2946, 51.6963),
    point(73.5318, 51.5014),
    point(56.0252, 71.7366),
    point(41.5493, 92.3655),
    point(70.7299, 92.2041),
  ],
};

/**
 * dlib's chip of 150 pixels: `mean_face_shape_x` and `mean_face_shape_y` of dlib/image_transforms/interpolation.h with a padding
 * of 0.25; of the 68 points the means of each eye's six, the tip of the nose (30) and the corners of the mouth (48, 54). What
 * face-api.js cuts (the distance from eyes to mouth is 0.45 of the side) is the same square, not turned.
 */
export const dlibTemplate: FaceTemplate = {
  side: 150,
  points: [
    point(47.5492, 46.5991),
    point(100.4761, 46.5991),
    point(74.0127, 76.5625),
    point(50.4149, 103.0233),
    point(97.6104, 103.0233),
  ],
};

const templates: Partial<Record<Alignment, FaceTemplate>> = {
  'arcface-112': arcfaceTemplate,
  'dlib-150': dlibTemplate,
};

/** Null for an alignment that looks at no landmarks. */
export const templateOf = (alignment: Alignment): FaceTemplate | null => templates[alignment] ?? null;

/** From the picture that the landmarks are in to the square of `side` pixels that shows the face as the template does. */
export function toTemplate(
  { side: own, points }: FaceTemplate,
  landmarks: FiveLandmarks,
  side: number,
): Similarity {
  const scale = side / own;
  return fitSimilarity(
    landmarks,
    points.map(({ x, y }) => point(x * scale, y * scale)),
  );
}
