/**
 * Reads a weights file in the format of TensorFlow.js: a JSON manifest beside raw little-endian bytes,
 * each tensor either float32 or quantised to uint8 as `value = byte · scale + min`.
 * Source: https://www.tensorflow.org/js/guide/save_load (weightsManifest).
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../shared/errors.ts';
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';

const manifestSchema = z.array(
  z.object({
    paths: z.array(z.string()).min(1),
    weights: z.array(
      z.object({
        name: z.string(),
        shape: z.array(z.number().int().positive()),
        dtype: z.literal('float32'),
        quantization: z.object({ dtype: z.literal('uint8'), scale: z.number(), min: z.number() }).optional(),
      }),
    ),
  }),
);

/**
 * @param manifestFile path of `…-weights_manifest.json`; its shards lie beside it
 * @param name how errors call the model
 * @returns float32 tensors by name, in TensorFlow's layouts (convolutions are [kh, kw, in, out])
 * @throws AppError MODEL_FILE_INVALID
 */
export async function readTfjsWeights(manifestFile: string, name: string): Promise<Map<string, FloatTensor>> {
  const manifest = manifestSchema.safeParse(await readJson(manifestFile, name));
  if (!manifest.success) throw invalid(name, 'its manifest is malformed', manifest.error);
  const tensors = new Map<string, FloatTensor>();
  for (const group of manifest.data) {
    const folder = path.dirname(manifestFile);
    const shards = await Promise.all(
      group.paths.map((file) => readBytes(path.join(folder, path.basename(file)), name)),
    );
    const bytes = Buffer.concat(shards);
    let offset = 0;
    for (const { name: tensorName, shape, quantization } of group.weights) {
      const count = elementCount(shape);
      const size = quantization ? count : count * 4;
      if (offset + size > bytes.length) throw invalid(name, 'its weights file is cut short');
      const data = new Float32Array(count);
      if (quantization) {
        const { scale, min } = quantization;
        for (let i = 0; i < count; i++) data[i] = bytes[offset + i]! * scale + min;
      } else {
        for (let i = 0; i < count; i++) data[i] = bytes.readFloatLE(offset + 4 * i);
      }
      tensors.set(tensorName, floatTensor(shape, data));
      offset += size;
    }
    if (offset !== bytes.length) throw invalid(name, 'its weights file is too long');
  }
  return tensors;
}

async function readBytes(file: string, name: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw invalid(name, `its file ${path.basename(file)} cannot be read`, cause);
  }
}

async function readJson(file: string, name: string): Promise<unknown> {
  const bytes = await readBytes(file, name);
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch (cause) {
    throw invalid(name, 'its manifest is not JSON', cause);
  }
}

function invalid(name: string, reason: string, cause?: unknown): AppError {
  return new AppError('MODEL_FILE_INVALID', `The model ${name} cannot be used: ${reason}.`, { cause });
}
