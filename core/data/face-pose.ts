/** Where a face looks, from its 68 landmarks. */
import { Matrix, pseudoInverse } from 'ml-matrix';
import type { Face } from './faces.ts';

/** Degrees. Positive roll: the head leans to the right of the image; yaw: it looks to the right of the image; pitch: up. */
export interface Pose {
  roll: number;
  yaw: number;
  pitch: number;
}

/**
 * A head in some unit, x to the right of the image, y down, z away from the camera: tip of the nose, chin, outer corners
 * of eyes and mouth, as commonly used for estimating the pose of a head.
 */
const head: readonly (readonly [landmark: number, x: number, y: number, z: number])[] = [
  [30, 0, 0, 0],
  [8, 0, 330, 65],
  [36, -225, -170, 135],
  [45, 225, -170, 135],
  [48, -150, 150, 125],
  [54, 150, 150, 125],
];
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const centred = (values: readonly number[]) => values.map((value) => value - mean(values));
const model = new Matrix([1, 2, 3].map((axis) => centred(head.map((point) => point[axis]!)))).transpose();
/** 3 × 6: solves for a linear camera by least squares. */
const solve = pseudoInverse(model);

const degrees = (radians: number) => (radians * 180) / Math.PI;

/**
 * A scaled orthographic camera fitted to six landmarks: right to ten degrees or so, for heads like the model's. Pitch
 * reads low with our landmarks: portraits measure -40 to +10, and -20 in the middle.
 */
export function poseOf({ landmarks }: Pick<Face, 'landmarks'>): Pose {
  const points = head.map(([landmark]) => landmarks[landmark]!);
  const camera = solve.mmul(
    new Matrix([centred(points.map(({ x }) => x)), centred(points.map(({ y }) => y))]).transpose(),
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
