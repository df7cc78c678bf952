/** A stored face as a picture that a screen can show. */
import sharp from 'sharp';
import { decodeCrop } from './crop-file.ts';
import { alignRegion } from './face-region.ts';

/** Side in pixels of what is shown of a kept region: the face alone, upright. */
const shownSide = 150;

/**
 * @param bytes as core/data/crop-file.ts stores them
 * @returns a `data:` address of a PNG; about 40 kB for 150 × 150 pixels
 * @throws AppError MODEL_FILE_INVALID
 */
export async function cropPicture(bytes: Uint8Array): Promise<string> {
  const { image, face } = decodeCrop(bytes, 'face crop');
  const { width, height, data } =
    face === null
      ? image
      : { width: shownSide, height: shownSide, data: alignRegion({ image, ...face }, 'dlib-150', shownSide) };
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  return `data:image/png;base64,${png.toString('base64')}`;
}
