/**
 * Faces in photographs that lie on their side. The detector finds some of them all the same, but less surely and with landmarks in
 * the wrong places: a face counts as upright when its eyes lie above its mouth, as far as they must.
 */
import { fitSimilarity } from '../linalg/similarity-transform.ts';
import { arcfaceTemplate } from './face-templates.ts';
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

const sureScore = 0.99;
const otherTurns: readonly Turn[] = [90, 270, 180];
/** Heads are held up to here; what is turned further is upright in another of the four turns. */
const mostTilt = 50;

/** Degrees by which a face is turned from upright, 0 to 180. */
function tiltOf({ landmarks }: Face): number {
  const { a, b } = fitSimilarity(arcfaceTemplate.points, landmarks);
  return Math.abs((Math.atan2(b, a) * 180) / Math.PI);
}

/** 0…1; 0 for no face. */
function plausibility([face]: readonly Face[]): number {
  return face === undefined ? 0 : face.score * (tiltOf(face) <= mostTilt ? 1 : 0.5);
}

/** Least size of a face that may be the same one, found in another turn. */
const sameSize = 0.5;

/** Side of the surest face as a share of the photograph's longer side; 0 for no face. */
function shareOf([face]: readonly Face[], { width, height }: RgbImage): number {
  return face === undefined ? 0 : Math.max(face.box.width, face.box.height) / Math.max(width, height);
}

const isSurelyUpright = ([face]: readonly Face[]) =>
  face !== undefined && face.score >= sureScore && tiltOf(face) <= mostTilt;

/**
 * The faces of a photograph. It is looked at once when its surest face is upright, and in all four turns otherwise.
 * @throws AppError as the detector
 */
export async function findUprightFaces(image: RgbImage, detector: FaceDetector): Promise<UprightFaces> {
  let best: UprightFaces = { image, faces: await detector.detect(image), turned: 0 };
  if (isSurelyUpright(best.faces)) return best;
  // What may be the same face in another turn is as large; to look for smaller ones takes ten times as long.
  const smallestFace = sameSize * shareOf(best.faces, image);
  for (const turned of otherTurns) {
    const other = uprightImage(image, quarterTurns[turned]);
    const faces = await detector.detect(other, { smallestFace });
    // Strictly better: what is equal stays as the photographer held the camera.
    if (plausibility(faces) > plausibility(best.faces)) best = { image: other, faces, turned };
  }
  return best;
}
