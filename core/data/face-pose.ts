/** Where a face looks, from its five landmarks. */
import { Matrix, pseudoInverse } from 'ml-matrix';
import { arcfaceTemplate } from './face-templates.ts';
import type { Face } from './faces.ts';

/** Degrees. Positive roll: the head leans to the right of the image; yaw: it looks to the right of the image; pitch: up. */
export interface Pose {
  roll: number;
  yaw: number;
  pitch: number;
}

/**
 * A head in units of ArcFace's template (an eye distance of 35.2, about 1.8 mm each), x to the right of the image, y down, z away
 * from the camera, from the tip of the nose: the template itself, which is a mean face seen from the front, with the depths of
 * eyes and mouth behind the nose.
 */
const depthBehindNose = [14, 14, 0, 14, 14];
const [, , nose] = arcfaceTemplate.points;
const head: readonly (readonly [x: number, y: number, z: number])[] = arcfaceTemplate.points.map(
  ({ x, y }, index) => [x - nose.x, y - nose.y, depthBehindNose[index]!],
);
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const centred = (values: readonly number[]) => values.map((value) => value - mean(values));
const model = new Matrix([0, 1, 2].map((axis) => centred(head.map((point) => point[axis]!)))).transpose();
/** 3 × 5: solves for a linear camera by least squares. */
const solve = pseudoInverse(model);

const degrees = (radians: number) => (radians * 180) / Math.PI;

/** A scaled orthographic camera fitted to five landmarks: right to ten degrees or so, for heads like the model's. */
export function poseOf({ landmarks }: Pick<Face, 'landmarks'>): Pose {
  const camera = solve.mmul(
    new Matrix([centred(landmarks.map(({ x }) => x)), centred(landmarks.map(({ y }) => y))]).transpose(),
  );
  const [right, down] = [camera.getColumn(0), camera.getColumn(1)].map(normalised) as [number[], number[]];
  const forward = normalised(cross(right, down));
  // R = Rz(roll) · Ry · Rx, its rows being right, down and forward.
  const roll = Math.atan2(down[0]!, right[0]!);
  const yaw = Math.asin(Math.max(-1, Math.min(1, forward[0]!)));
  const pitch = Math.atan2(-forward[1]!, forward[2]!);
  return { roll: degrees(roll), yaw: degrees(yaw), pitch: degrees(pitch) };
}

function normalised(vector: readonly number[]): number[] {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}

function cross(a: readonly number[], b: readonly number[]): number[] {
  return [a[1]! * b[2]! - a[2]! * b[1]!, a[2]! * b[0]! - a[0]! * b[2]!, a[0]! * b[1]! - a[1]! * b[0]!];
}
