/**
 * MTCNN's cascade: a small network proposes windows at all sizes of the photograph, a second one throws most of them out, a third
 * judges the rest and finds the landmarks. Thresholds are those of its authors' code but for the last one; see docs/decisions/0021.
 */

import type { FiveLandmarks } from '../../data/face-templates.ts';
import type { Face } from '../../data/faces.ts';
import type { RgbImage } from '../../data/rgb-image.ts';
import { proposalStride, windowSides } from '../../models/mtcnn.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import { type Candidate, confidence, corrected, heightOf, squared, thinned, widthOf } from './candidates.ts';
import { createPicture, type Picture } from './picture.ts';

/** Runs the three networks; every tensor float32. */
export interface CascadeNetworks {
  /** @param pixels [1, 3, height, width] */
  propose(pixels: FloatTensor): Promise<{ scores: FloatTensor; offsets: FloatTensor }>;
  /** @param pixels [count, 3, 24, 24] */
  refine(pixels: FloatTensor): Promise<{ scores: FloatTensor; offsets: FloatTensor }>;
  /** @param pixels [count, 3, 48, 48] */
  output(pixels: FloatTensor): Promise<{ scores: FloatTensor; offsets: FloatTensor; landmarks: FloatTensor }>;
}

export interface CascadeSettings {
  /** Least side of a face as a share of the photograph's longer side. */
  readonly smallestFace: number;
}

/** From one size of the photograph to the next: half the area. */
const pyramidFactor = Math.SQRT1_2;
/** Grey around each size, in its pixels: half a window, so that a face that fills the frame is found. */
const margin = windowSides.propose / 2;
/** A face may be larger than the photograph shows of it. */
const largestFace = 1.6;
const thresholds = { propose: 0.6, refine: 0.7, output: 0.7 } as const;
/** So much of the union, at most: of one size, of all sizes, after the second network; and of the smaller box in the end. */
const overlaps = { level: 0.5, proposals: 0.7, refined: 0.7, faces: 0.7 } as const;
/** More come of pictures full of small structure; the surest are looked at. */
const mostWindows = 300;
/** The photograph's sides are taken as multiples of this share of the longer one, so that few sizes have to be compiled. */
const sideSteps = 4;

/** @returns faces in pixels of the image, the surest first; the centre of its first pixel is 0 */
export async function findFaces(
  image: RgbImage,
  networks: CascadeNetworks,
  settings: CascadeSettings,
): Promise<Face[]> {
  const picture = createPicture(image);
  const proposals = await propose(image, picture, networks, settings);
  const refined = await refine(proposals, picture, networks);
  return output(refined, picture, networks);
}

async function propose(
  { width, height }: RgbImage,
  picture: Picture,
  networks: CascadeNetworks,
  { smallestFace }: CascadeSettings,
): Promise<Candidate[]> {
  const longer = Math.max(width, height);
  const found: Candidate[] = [];
  for (let face = smallestFace * longer; face <= largestFace * longer; face /= pyramidFactor) {
    // Pixels of the photograph for one of this size.
    const step = face / windowSides.propose;
    const sideOf = (side: number) =>
      Math.round((longer * (Math.ceil((sideSteps * side) / longer) / sideSteps)) / step) + 2 * margin;
    const [columns, rows] = [sideOf(width), sideOf(height)];
    const pixels = new Float32Array(3 * columns * rows);
    picture.sample(-margin * step, -margin * step, step, columns, rows, pixels);
    const answer = await networks.propose({ dtype: 'float32', dims: [1, 3, rows, columns], data: pixels });
    found.push(...thinned(windowsOf(answer, step), overlaps.level));
  }
  return thinned(found, overlaps.proposals).slice(0, mostWindows);
}

function windowsOf(
  { scores, offsets }: { scores: FloatTensor; offsets: FloatTensor },
  step: number,
): Candidate[] {
  const [, , rows = 0, columns = 0] = scores.dims;
  const cells = rows * columns;
  const windows: Candidate[] = [];
  for (let cell = 0; cell < cells; cell++) {
    const score = confidence(scores.data[cell]!, scores.data[cells + cell]!);
    if (score < thresholds.propose) continue;
    const left = (proposalStride * (cell % columns) - margin) * step;
    const top = (proposalStride * Math.floor(cell / columns) - margin) * step;
    const side = windowSides.propose * step;
    const own = [0, 1, 2, 3].map((index) => offsets.data[index * cells + cell]!);
    windows.push(corrected({ left, top, right: left + side, bottom: top + side, score }, own));
  }
  return windows;
}

async function refine(
  proposals: Candidate[],
  picture: Picture,
  { refine: judge }: CascadeNetworks,
): Promise<Candidate[]> {
  if (proposals.length === 0) return [];
  const windows = proposals.map(squared);
  const { scores, offsets } = await judge(sampleWindows(windows, picture, windowSides.refine));
  const sure = windows.flatMap((window, index) => {
    const score = confidence(scores.data[2 * index]!, scores.data[2 * index + 1]!);
    return score < thresholds.refine ? [] : [{ ...window, score, index }];
  });
  return thinned(sure, overlaps.refined).map(({ index, ...window }) =>
    corrected(window, offsets.data, 4 * index),
  );
}

interface FoundFace extends Candidate {
  landmarks: FiveLandmarks;
}

async function output(
  refined: Candidate[],
  picture: Picture,
  { output: judge }: CascadeNetworks,
): Promise<Face[]> {
  if (refined.length === 0) return [];
  const windows = refined.map(squared);
  const { scores, offsets, landmarks } = await judge(sampleWindows(windows, picture, windowSides.output));
  const found = windows.flatMap((window, index): FoundFace[] => {
    const score = confidence(scores.data[2 * index]!, scores.data[2 * index + 1]!);
    const box = corrected({ ...window, score }, offsets.data, 4 * index);
    if (score < thresholds.output || !(widthOf(box) > 0 && heightOf(box) > 0)) return [];
    const points = Array.from({ length: 5 }, (_, point) => ({
      // Edges count from 0, pixels from the centre of the first one.
      x: window.left + landmarks.data[10 * index + point]! * widthOf(window) - 0.5,
      y: window.top + landmarks.data[10 * index + 5 + point]! * heightOf(window) - 0.5,
    }));
    return [{ ...box, landmarks: points as unknown as FiveLandmarks }];
  });
  return thinned(found, overlaps.faces, 'smaller').map((face) => ({
    box: { x: face.left - 0.5, y: face.top - 0.5, width: widthOf(face), height: heightOf(face) },
    landmarks: face.landmarks,
    score: face.score,
  }));
}

function sampleWindows(windows: readonly Candidate[], picture: Picture, size: number): FloatTensor {
  const values = 3 * size * size;
  const data = new Float32Array(windows.length * values);
  for (const [index, window] of windows.entries()) {
    const target = data.subarray(index * values, (index + 1) * values);
    picture.sample(window.left, window.top, widthOf(window) / size, size, size, target);
  }
  return { dtype: 'float32', dims: [windows.length, 3, size, size], data };
}
