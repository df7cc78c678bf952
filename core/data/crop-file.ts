/**
 * What is kept of a face, as it is stored: a safetensors file with a tensor `pixels`, U8 [height, width, 3], RGB row by row, and
 * where the import found the face in it `landmarks`, F32 [5, 2] (x, y), and `box`, F32 [4] (x, y, width, height). Pictures that
 * were cropped before the import, and crops of earlier versions, have the pixels alone.
 * No image format: at this size writing and reading a PNG costs more than all the rest of an import or an epoch, and
 * saves little (docs/decisions/0006).
 */
import { parseSafetensors, type SafetensorsEntry } from '../lora/safetensors.ts';
import { encodeRawSafetensors, type RawTensor } from '../lora/safetensors-writer.ts';
import { AppError } from '../shared/errors.ts';
import type { Box, FaceRegion } from './face-region.ts';
import type { FiveLandmarks } from './face-templates.ts';
import type { RgbImage } from './rgb-image.ts';

const names = { pixels: 'pixels', landmarks: 'landmarks', box: 'box' } as const;

export interface StoredCrop {
  readonly image: RgbImage;
  /** Null for a picture that is used as it is. */
  readonly face: Pick<FaceRegion, 'landmarks' | 'box'> | null;
}

/** A picture that is used as it is. The same pixels always give the same bytes. */
export function encodeCrop(image: RgbImage): Uint8Array {
  return encodeRawSafetensors([pixelTensor(image)], {});
}

/** The same region always gives the same bytes. */
export function encodeRegion({ image, landmarks, box }: FaceRegion): Uint8Array {
  return encodeRawSafetensors(
    [
      floatTensor(
        names.landmarks,
        [5, 2],
        landmarks.flatMap(({ x, y }) => [x, y]),
      ),
      floatTensor(names.box, [4], [box.x, box.y, box.width, box.height]),
      pixelTensor(image),
    ],
    {},
  );
}

const pixelTensor = ({ width, height, data }: RgbImage): RawTensor => ({
  ...{ name: names.pixels, dtype: 'U8', dims: [height, width, 3], bytes: data },
});

function floatTensor(name: string, dims: readonly number[], values: readonly number[]): RawTensor {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeFloatLE(value, 4 * index);
  return { name, dtype: 'F32', dims, bytes };
}

/**
 * @param name what the file is called in errors
 * @returns pixels that are a view of `bytes`
 * @throws AppError MODEL_FILE_INVALID for anything else than {@link encodeCrop} and {@link encodeRegion} give
 */
export function decodeCrop(bytes: Uint8Array, name: string): StoredCrop {
  const { entries, bytesOf } = parseSafetensors(bytes, name);
  const invalid = () => new AppError('MODEL_FILE_INVALID', `The file "${name}" does not hold one RGB image.`);
  const pixels = entries.get(names.pixels);
  const [height, width, channels] = pixels?.dims ?? [];
  if (pixels?.dtype !== 'U8' || pixels.dims.length !== 3 || channels !== 3) throw invalid();
  const image = { width: width!, height: height!, data: bytesOf(pixels) };
  if (entries.size === 1) return { image, face: null };
  const numbersOf = (entry: SafetensorsEntry | undefined, dims: string): number[] => {
    if (entry?.dtype !== 'F32' || entry.dims.join() !== dims) throw invalid();
    const raw = bytesOf(entry);
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    const values = Array.from({ length: raw.byteLength / 4 }, (_, index) => view.getFloat32(4 * index, true));
    if (!values.every(Number.isFinite)) throw invalid();
    return values;
  };
  const at = numbersOf(entries.get(names.landmarks), '5,2');
  const [x = 0, y = 0, boxWidth = 0, boxHeight = 0] = numbersOf(entries.get(names.box), '4');
  const points = Array.from({ length: 5 }, (_, index) => ({ x: at[2 * index]!, y: at[2 * index + 1]! }));
  const box: Box = { x, y, width: boxWidth, height: boxHeight };
  const differ = points.some((point) => point.x !== points[0]!.x || point.y !== points[0]!.y);
  if (entries.size !== 3 || !differ || !(boxWidth > 0 && boxHeight > 0)) throw invalid();
  return { image, face: { landmarks: points as unknown as FiveLandmarks, box } };
}
