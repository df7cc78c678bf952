/**
 * MTCNN's cascade: a small network proposes windows at all sizes of the photograph, a second one throws most of them out, a third
 * judges the rest and finds the landmarks. Thresholds are those of its authors' code but for the last one; see docs/decisions/0021.
 */

import type { FiveLandmarks } from '../../data/face-templates.ts';
import type { Face } from '../../data/faces.ts';
import type { RgbImage } from '../../data/rgb-image.ts';
import { proposalStride, windowSides } from '../../models/mtcnn.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import { mirrorPlanes } from '../mirror-planes.ts';
import { type Candidate, confidence, corrected, heightOf, squared, thinned, widthOf } from './candidates.ts';
import { closeUpWindows } from './close-ups.ts';
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
/** What counts as found; below are mostly things that look like a face. */
const leastScore = 0.9;
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
  const judged = async (proposals: Candidate[]) =>
    (await output(await refine(proposals, picture, networks), picture, networks)).filter(
      ({ score }) => score >= leastScore,
    );
  const found = await judged(await propose(image, picture, networks, settings));
  return found.length > 0 ? found : judged(closeUpWindows(image));
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
  const found = facesIn(windows, await judge(sampleWindows(windows, picture, windowSides.output)));
  return thinned(found, overlaps.faces, 'smaller').map(toFace);
}

/** What the third network takes for faces; edges count from 0. @param shown what it was given of each window */
function facesIn(
  windows: readonly Candidate[],
  { scores, offsets, landmarks }: Awaited<ReturnType<CascadeNetworks['output']>>,
  shown: 'as it is' | 'mirrored' = 'as it is',
): FoundFace[] {
  return windows.flatMap((window, index): FoundFace[] => {
    const score = confidence(scores.data[2 * index]!, scores.data[2 * index + 1]!);
    const box = corrected({ ...window, score }, offsets.data, 4 * index);
    if (score < thresholds.output || !(widthOf(box) > 0 && heightOf(box) > 0)) return [];
    const points = Array.from({ length: 5 }, (_, point) => ({
      x: window.left + landmarks.data[10 * index + point]! * widthOf(window),
      y: window.top + landmarks.data[10 * index + 5 + point]! * heightOf(window),
    }));
    const face = { ...box, landmarks: points as unknown as FiveLandmarks };
    return [shown === 'mirrored' ? mirroredIn(window, face) : face];
  });
}

/** What was found in the window's mirror image, in the window itself. */
function mirroredIn({ left, right }: Candidate, face: FoundFace): FoundFace {
  const mirrored = (x: number) => left + right - x;
  const [leftEye, rightEye, nose, leftMouth, rightMouth] = face.landmarks.map(({ x, y }) => ({
    x: mirrored(x),
    y,
  })) as unknown as FiveLandmarks;
  return {
    ...face,
    left: mirrored(face.right),
    right: mirrored(face.left),
    landmarks: [rightEye, leftEye, nose, rightMouth, leftMouth],
  };
}

/** In pixels, the centre of the first one being 0. */
const toFace = (face: FoundFace): Face => ({
  box: { x: face.left - 0.5, y: face.top - 0.5, width: widthOf(face), height: heightOf(face) },
  landmarks: face.landmarks.map(({ x, y }) => ({ x: x - 0.5, y: y - 0.5 })) as unknown as FiveLandmarks,
  score: face.score,
});

/** The box a little larger and smaller, and moved: the mean of what is found in them is steadier than any of it. */
const nearby = [
  { scale: 1, right: 0, down: 0 },
  { scale: 1.1, right: 0.03, down: -0.03 },
  { scale: 1.1, right: -0.03, down: 0.03 },
  { scale: 0.95, right: 0, down: 0 },
] as const;
/** From one look to the next the box follows the face. */
const landmarkLooks = 2;

/**
 * The landmarks of a face that was found, more exactly.
 * @param box in pixels of the image
 * @returns the face, or nothing when it is not one
 */
export async function findLandmarks(
  image: RgbImage,
  { output: judge }: CascadeNetworks,
  box: Face['box'],
): Promise<Face[]> {
  const picture = createPicture(image);
  let face: Face = { box, landmarks: noLandmarks, score: 0 };
  for (let look = 0; look < landmarkLooks; look++) {
    const windows = nearby.map((place) => moved(edgesOf(face.box), place));
    const pixels = sampleWindows(windows, picture, windowSides.output);
    const found = facesIn(windows, await judge(pixels));
    mirrorPlanes(pixels.data, windowSides.output);
    // Left and right count alike, as nothing in the network makes them.
    found.push(...facesIn(windows, await judge(pixels), 'mirrored'));
    if (found.length === 0) return [];
    face = meanOf(found.map(toFace));
  }
  return [face];
}

const noLandmarks = Array.from({ length: 5 }, () => ({ x: 0, y: 0 })) as unknown as FiveLandmarks;

const edgesOf = ({ x, y, width, height }: Face['box']): Candidate =>
  squared({ left: x + 0.5, top: y + 0.5, right: x + 0.5 + width, bottom: y + 0.5 + height, score: 1 });

function moved(window: Candidate, { scale, right, down }: (typeof nearby)[number]): Candidate {
  const side = widthOf(window);
  const grown = (side * (scale - 1)) / 2;
  return {
    left: window.left - grown + right * side,
    top: window.top - grown + down * side,
    right: window.right + grown + right * side,
    bottom: window.bottom + grown + down * side,
    score: window.score,
  };
}

function meanOf(faces: readonly Face[]): Face {
  const mean = (of: (face: Face) => number) => faces.reduce((sum, face) => sum + of(face), 0) / faces.length;
  return {
    box: {
      ...{ x: mean(({ box }) => box.x), y: mean(({ box }) => box.y) },
      ...{ width: mean(({ box }) => box.width), height: mean(({ box }) => box.height) },
    },
    landmarks: noLandmarks.map((_, index) => ({
      x: mean(({ landmarks }) => landmarks[index]!.x),
      y: mean(({ landmarks }) => landmarks[index]!.y),
    })) as unknown as FiveLandmarks,
    score: Math.max(...faces.map(({ score }) => score)),
  };
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
