/**
 * Names in the files of Hugging Face PEFT, and where a layer of Anneal lies in a model of Python. Layers may be one module
 * there: timm computes q, k and v in one Linear. Factors of its parts are exactly factors of the whole: A is stacked, B has
 * each part's rows in the columns of its own share of A, zeros elsewhere.
 * Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '../shared/hash.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import type { LoraLayer } from './model-state.ts';
import { invalid } from './safetensors.ts';
import { stackFactors } from './stack-factors.ts';

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

/** One module of PEFT's weights file. */
export interface PeftModule {
  readonly module: string;
  readonly r: number;
  readonly scale: number;
  readonly a: FloatTensor;
  readonly b: FloatTensor;
  /** The layers in it, and from which row of A each has its share. */
  readonly parts: readonly {
    readonly layer: LoraLayer;
    readonly rankStart: number;
    readonly rowStart: number;
  }[];
}

/**
 * The modules that carry these layers, in the order of the first layer of each. Parts of different scales get the
 * largest one, and the ratio goes into B.
 * @param layers of rank 1 or more
 */
export function fuseLayers(layers: readonly LoraLayer[], names: PeftNames): PeftModule[] {
  const groups = new Map<
    string,
    { rows: number | undefined; members: { layer: LoraLayer; rowStart: number }[] }
  >();
  for (const layer of layers) {
    const { module, start = 0, rows } = names.placeOf(layer.module);
    const group = groups.get(module) ?? { rows, members: [] };
    group.members.push({ layer, rowStart: start });
    groups.set(module, group);
  }
  return [...groups].map(([module, { rows, members }]) => {
    const [first] = members;
    if (rows !== undefined) return fuse(module, rows, members);
    const { r, scale, a, b } = first!.layer;
    return { module, r, scale, a, b, parts: [{ ...first!, rankStart: 0 }] };
  });
}

function fuse(
  module: string,
  rows: number,
  members: readonly { layer: LoraLayer; rowStart: number }[],
): PeftModule {
  const scale = Math.max(...members.map(({ layer }) => layer.scale));
  const { a, b } = stackFactors(
    members.map(({ layer, rowStart }) => ({ factors: layer, weight: layer.scale / scale, rowStart })),
    rows,
  );
  let r = 0;
  const parts = members.map((member) => {
    const part = { ...member, rankStart: r };
    r += member.layer.r;
    return part;
  });
  return { module, r, scale, a, b, parts };
}
