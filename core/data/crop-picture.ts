/** A stored face crop as a picture that a screen can show. */
import sharp from 'sharp';
import { decodeCrop } from './crop-file.ts';

/**
 * @param bytes as core/data/crop-file.ts stores them
 * @returns a `data:` address of a PNG; about 40 kB for 150 × 150 pixels
 * @throws AppError MODEL_FILE_INVALID
 */
export async function cropPicture(bytes: Uint8Array): Promise<string> {
  const { width, height, data } = decodeCrop(bytes, 'face crop');
  const png = await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  return `data:image/png;base64,${png.toString('base64')}`;
}
