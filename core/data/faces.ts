/** Face detection and alignment in a worker thread; see face-worker.ts for the networks. */
import type { RgbImage } from './decode.ts';

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Point {
  x: number;
  y: number;
}

/** All in pixels of the picture given to `detect`. */
export interface Face {
  box: Box;
  /** The usual 68 points (iBUG order): jaw 0–16, brows 17–26, nose 27–35, eyes 36–47, mouth 48–67. */
  landmarks: Point[];
  /** Confidence in [0, 1]. */
  score: number;
}

export interface FaceDetector {
  /** Every face in the picture, the surest first. Runs in a worker thread: the caller's event loop stays free. */
  detect(image: RgbImage): Promise<Face[]>;
  close(): Promise<void>;
}
