/**
 * A face crop as it is stored: a safetensors file with one tensor `pixels`, U8 [height, width, 3], RGB row by row.
 * No image format: at this size writing and reading a PNG costs more than all the rest of an import or an epoch, and
 * saves nothing, since what is left of a photograph at 150 pixels hardly compresses (docs/decisions/0006).
 */
import { parseSafetensors } from '../lora/safetensors.ts';
import { encodeRawSafetensors } from '../lora/safetensors-writer.ts';
import { AppError } from '../shared/errors.ts';
import type { RgbImage } from './rgb-image.ts';

const tensorName = 'pixels';

/** The same pixels always give the same bytes. */
export function encodeCrop({ width, height, data }: RgbImage): Uint8Array {
  return encodeRawSafetensors([{ name: tensorName, dtype: 'U8', dims: [height, width, 3], bytes: data }], {});
}

/**
 * @param name what the file is called in errors
 * @returns a view of `bytes`
 * @throws AppError MODEL_FILE_INVALID for anything else than {@link encodeCrop} gives
 */
export function decodeCrop(bytes: Uint8Array, name: string): RgbImage {
  const { entries, bytesOf } = parseSafetensors(bytes, name);
  const pixels = entries.get(tensorName);
  const [height, width, channels] = pixels?.dims ?? [];
  if (entries.size !== 1 || pixels?.dtype !== 'U8' || pixels.dims.length !== 3 || channels !== 3)
    throw new AppError('MODEL_FILE_INVALID', `The file "${name}" does not hold one RGB image.`);
  return { width: width!, height: height!, data: bytesOf(pixels) };
}
