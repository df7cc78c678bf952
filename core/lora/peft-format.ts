/**
 * Names in the files of Hugging Face PEFT, and where a layer of Anneal lies in a model of Python.
 * Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '../shared/hash.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { invalid } from './safetensors.ts';

export const peftConfigName = 'adapter_config.json';
export const peftWeightsName = 'adapter_model.safetensors';
/** What every name in PEFT's weights file begins with. */
export const peftPrefix = 'base_model.model.';

/** Where PEFT finds a layer. With `start` and `rows` it is rows `start`… of the outputs of a wider module. */
export interface PeftPlace {
  readonly module: string;
  /** First output row of this layer in the module. */
  readonly start?: number;
  /** Output rows of the whole module. */
  readonly rows?: number;
}

/** How a model of Python calls the layers and the classifier of a base model. */
export interface PeftNames {
  placeOf(module: string): PeftPlace;
  /** Module of the classifier, listed in `modules_to_save`. */
  readonly head: string;
}

/** Anneal's own names; `classifier` as in transformers. */
export const ownPeftNames: PeftNames = { placeOf: (module) => ({ module }), head: 'classifier' };

/** @throws AppError MODEL_FILE_INVALID when the file cannot be read */
export async function readNamed(folder: string, name: string): Promise<Buffer> {
  try {
    return await readFile(join(folder, name));
  } catch (error) {
    throw invalid(name, 'it cannot be read from the adapter folder', error);
  }
}

/** @throws AppError MODEL_FILE_INVALID when the file cannot be read or has another hash */
export async function readHashed(folder: string, name: string, expected: string): Promise<Buffer> {
  const bytes = await readNamed(folder, name);
  if (sha256(bytes) !== expected) throw invalid(name, `its SHA-256 is not the one in ${peftConfigName}`);
  return bytes;
}

/** The tensor with every value multiplied; the tensor itself for 1. */
export function scaledTensor(tensor: FloatTensor, factor: number): FloatTensor {
  if (factor === 1) return tensor;
  return floatTensor(
    tensor.dims,
    tensor.data.map((value) => value * factor),
  );
}
