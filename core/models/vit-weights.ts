/** Reads the weights of a vision transformer's folder under Anneal's names, from one file or from its pieces. */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { invalid } from '../lora/safetensors.ts';
import { openSafetensors } from '../lora/safetensors-file.ts';
import { AppError } from '../shared/errors.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { plural } from '../shared/text.ts';
import { exportAdvice } from './export-advice.ts';
import type { VitNaming } from './vit-config.ts';
import { canonicalVitName } from './vit-names.ts';
import { parse, readJsonFile, readModelKind } from './vit-settings.ts';

export const vitWeightsFile = 'model.safetensors';
export const vitIndexFile = 'model.safetensors.index.json';

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

export interface VitWeights {
  /** By Anneal's names. */
  readonly tensors: ReadonlyMap<string, FloatTensor>;
  /** By Anneal's names: the file's name of the tensor, and the file. */
  readonly origins: ReadonlyMap<string, { tensor: string; file: string }>;
  readonly naming: VitNaming;
  /** q, k and v came as one layer. */
  readonly fusedQkv: boolean;
}

/**
 * The files that hold weights, and which tensors the index promises in each (null: whatever it holds).
 * @throws AppError MODEL_FILE_INVALID
 */
export async function findWeightFiles(folder: string): Promise<Map<string, Set<string> | null>> {
  const json = await readJsonFile(folder, vitIndexFile);
  if (json === null) return new Map([[vitWeightsFile, null]]);
  const { weight_map: places } = parse(indexSchema, json, vitIndexFile);
  const files = new Map<string, Set<string>>();
  for (const [tensor, file] of Object.entries(places)) {
    // A hostile index must not lead out of the folder.
    if (basename(file) !== file || !/^[\w.-]+\.safetensors$/.test(file)) {
      throw invalid(vitIndexFile, `"${file}" is not the name of a safetensors file next to it`);
    }
    const promised = files.get(file) ?? new Set();
    files.set(file, promised.add(tensor));
  }
  if (files.size === 0) throw invalid(vitIndexFile, 'it names no file');
  return files;
}

/**
 * Reads all tensors that an embedding needs; NaN and infinity are refused. q, k and v of a fused layer are views
 * of the memory that was read.
 * @throws AppError MODEL_FILE_INVALID naming file and tensor
 */
export async function readVitWeights(folder: string): Promise<VitWeights> {
  const tensors = new Map<string, FloatTensor>();
  const origins = new Map<string, { tensor: string; file: string }>();
  const namings = new Set<VitNaming>();
  let fusedQkv = false;
  for (const [file, promised] of await findWeightFiles(folder)) {
    await requireSafetensors(folder, file);
    await using reader = await openSafetensors(join(folder, file), { finite: true });
    const missing = [...(promised ?? [])].find((tensor) => !reader.entries.has(tensor));
    if (missing !== undefined) {
      throw invalid(file, `tensor "${missing}", which ${vitIndexFile} promises, is missing`);
    }
    for (const tensor of reader.entries.keys()) {
      const known = canonicalVitName(tensor);
      if (known === undefined) {
        throw new AppError(
          'MODEL_FILE_INVALID',
          `${file} is not of a ViT, DeiT, DINOv2, ViT-MAE or CLIP as timm or transformers name them: it holds a tensor "${tensor.slice(0, 200)}".`,
          { action: exportAdvice(await readModelKind(folder)) },
        );
      }
      if (known.naming !== null) namings.add(known.naming);
      if (known.name === null) continue;
      const parts = splitFused(known.name, withAllAxes(tensor, await reader.read(tensor)), tensor, file);
      if (parts.length > 1) fusedQkv = true;
      for (const [name, part] of parts) {
        const earlier = origins.get(name);
        if (earlier !== undefined) {
          throw invalid(
            file,
            `tensor "${tensor}" is the same part as "${earlier.tensor}" of ${earlier.file}`,
          );
        }
        tensors.set(name, part);
        origins.set(name, { tensor, file });
      }
    }
  }
  const [naming = 'timm', other] = namings;
  if (other !== undefined) {
    throw invalid(vitWeightsFile, `its blocks have names of two families, ${naming} and ${other}`);
  }
  return { tensors, origins, naming, fusedQkv };
}

/** @throws AppError MODEL_FILE_INVALID when there are weights, but in another format */
export async function requireSafetensors(folder: string, file: string): Promise<void> {
  const names = await readdir(folder).catch((): string[] => []);
  const other = names.find((name) => /\.(?:bin|pt|pth|ckpt|h5|msgpack)$/i.test(name));
  if (names.includes(file) || other === undefined) return;
  throw new AppError(
    'MODEL_FILE_INVALID',
    `${file} is missing; ${other} is of a format that can hold programs, too.`,
    {
      action:
        'Save the weights as safetensors, with transformers for example model.save_pretrained(FOLDER, safe_serialization=True).',
    },
  );
}

/** CLIP's class token [width] and positions [tokens, width] as [1, tokens, width]. */
function withAllAxes(tensorName: string, tensor: FloatTensor): FloatTensor {
  if (!/\bembeddings\.(?:class_embedding|position_embedding\.weight)$/.test(tensorName)) return tensor;
  const ones = Array.from({ length: Math.max(0, 3 - tensor.dims.length) }, () => 1);
  return { ...tensor, dims: [...ones, ...tensor.dims] };
}

/** `…attn.qkv.weight` [3d, d] or `.bias` [3d] as q, k and v; anything else as it is. */
function splitFused(
  name: string,
  tensor: FloatTensor,
  tensorName: string,
  file: string,
): [string, FloatTensor][] {
  if (!/\.attn\.qkv\.(?:weight|bias)$/.test(name)) return [[name, tensor]];
  const [rows = 0, ...rest] = tensor.dims;
  if (rows === 0 || rows % 3 !== 0) {
    throw invalid(file, `tensor "${tensorName}" has ${plural(rows, 'row')}: expected three times the width`);
  }
  const size = tensor.data.length / 3;
  return ['q', 'k', 'v'].map((part, index) => [
    name.replace('.qkv.', `.${part}.`),
    {
      dtype: 'float32',
      dims: [rows / 3, ...rest],
      data: tensor.data.subarray(index * size, (index + 1) * size),
    },
  ]);
}
