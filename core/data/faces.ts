/** Faces in photographs, and who finds them: core/engine/faces has the networks. */
import { z } from 'zod';
import type { RgbImage } from './rgb-image.ts';

const coordinate = z.number().min(-1e6).max(1e6);
const pointSchema = z.strictObject({ x: coordinate, y: coordinate });

export const faceSchema = z.strictObject({
  box: z.strictObject({
    ...pointSchema.shape,
    width: z.number().positive().max(1e6),
    height: z.number().positive().max(1e6),
  }),
  landmarks: z.tuple([pointSchema, pointSchema, pointSchema, pointSchema, pointSchema]).readonly(),
  score: z.number().min(0).max(1),
});

/**
 * A face in pixels of the image given to `detect`; the centre of the first pixel is 0. `landmarks`: the centres of the eyes, the
 * tip of the nose, the corners of the mouth, left in the image first. `score` is the confidence in [0, 1].
 */
export type Face = z.infer<typeof faceSchema>;

export interface FaceDetector {
  /**
   * Every face in the image, the surest first. Several images may be looked at at once; the caller's event loop stays free.
   * @param wanted `smallestFace`: share of the image's longer side; when none is found, smaller ones need not be looked for
   * @throws AppError INTERNAL when the networks cannot be loaded or the detector ends
   */
  detect(image: RgbImage, wanted?: { smallestFace: number }): Promise<Face[]>;
  /** Images still waiting are refused. */
  close(): Promise<void>;
}
