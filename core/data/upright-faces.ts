/**
 * Faces in photographs that lie on their side. The detector finds many of them all the same, as surely as upright ones,
 * but puts eyes and mouth in the wrong places: a face counts as upright when its eyes are as far apart as they must be.
 */

import type { Face, FaceDetector } from './faces.ts';
import { quarterTurns, type Turn, uprightImage } from './orientation.ts';
import type { RgbImage } from './rgb-image.ts';

export interface UprightFaces {
  /** The photograph, turned where that shows its faces upright. */
  image: RgbImage;
  faces: Face[];
  /** Degrees clockwise that it was turned by. */
  turned: Turn;
}

/** Distance of the eyes over the width of the box: 0.40 to 0.57 in upright faces, under 0.38 in most others. */
const uprightEyes = 0.39;
const sureScore = 0.8;
const otherTurns: readonly Turn[] = [90, 270, 180];

function eyesOverWidth({ landmarks, box }: Face): number {
  const centre = (from: number, to: number) => {
    const points = landmarks.slice(from, to);
    const sum = points.reduce((total, { x, y }) => ({ x: total.x + x, y: total.y + y }), { x: 0, y: 0 });
    return { x: sum.x / points.length, y: sum.y / points.length };
  };
  const [left, right] = [centre(36, 42), centre(42, 48)];
  return Math.hypot(right.x - left.x, right.y - left.y) / Math.max(1, box.width);
}

/** 0…1; 0 for no face. */
function plausibility(faces: readonly Face[]): number {
  const [face] = faces;
  return face === undefined ? 0 : face.score * Math.min(1, eyesOverWidth(face) / uprightEyes);
}

const isSurelyUpright = ([face]: readonly Face[]) =>
  face !== undefined && face.score >= sureScore && eyesOverWidth(face) >= uprightEyes;

/**
 * The faces of a photograph. It is looked at once when its surest face is upright, and in all four turns otherwise.
 * @throws AppError as the detector
 */
export async function findUprightFaces(image: RgbImage, detector: FaceDetector): Promise<UprightFaces> {
  let best: UprightFaces = { image, faces: await detector.detect(image), turned: 0 };
  if (isSurelyUpright(best.faces)) return best;
  for (const turned of otherTurns) {
    const other = uprightImage(image, quarterTurns[turned]);
    const faces = await detector.detect(other);
    // Strictly better: what is equal stays as the photographer held the camera.
    if (plausibility(faces) > plausibility(best.faces)) best = { image: other, faces, turned };
  }
  return best;
}
