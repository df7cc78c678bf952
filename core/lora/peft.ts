/**
 * A model state as a folder that Hugging Face PEFT can load: `adapter_config.json` and
 * `adapter_model.safetensors`. What PEFT has no words for stands under the key `anneal`; base weights that
 * were trained too lie in a third file beside them. Adapters of other programs: peft-adapter.ts.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { ExportedFigures } from '../evaluation/floors.ts';
import { AppError } from '../shared/errors.ts';
import { sha256 } from '../shared/hash.ts';
import { sha256Schema } from '../shared/sha256-schema.ts';
import { type FloatTensor, floatTensor } from '../shared/tensor.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import { makeFolder } from '../store/make-folder.ts';
import type { LoraLayer, ModelState } from './model-state.ts';
import { compilePatternTable } from './module-pattern.ts';
import {
  fuseLayers,
  ownPeftNames,
  type PeftModule,
  type PeftNames,
  peftConfigName,
  peftPrefix,
  peftWeightsName,
  readHashed,
  readNamed,
  scaledTensor,
} from './peft-format.ts';
import { decodeSafetensors, encodeSafetensors, invalid } from './safetensors.ts';
import { sliceFactors } from './stack-factors.ts';
import { checkedLayer } from './state-file.ts';

const baseWeightsName = 'anneal_base_weights.safetensors';

const count = z.number().int().nonnegative();
const sizes = z.array(count);
const positive = z.number().positive();
const annealSchema = z.object({
  /** 2 where `unfolded` names layers, which a reader of 1 would take for what they are not. */
  formatVersion: z.union([z.literal(1), z.literal(2)]),
  baseSha256: sha256Schema,
  classes: z.array(z.string()),
  layers: z.array(
    z.object({
      module: z.string(),
      r: count.positive(),
      scale: positive,
      /** Where its factors are, if not under its own name: a block of a wider module's. */
      place: z
        .object({ module: z.string(), rankStart: count, rowStart: count, rows: count, scale: positive })
        .optional(),
    }),
  ),
  /** Layers without factors yet; PEFT knows no rank 0, so they are not in the weights file. */
  emptyLayers: z.array(z.object({ module: z.string(), scale: positive, aShape: sizes, bShape: sizes })),
  /** Module of the classifier, and what its weight was multiplied with: Anneal's head reads the embedding times that. */
  head: z.object({ module: z.string(), gain: positive }).default({ module: ownPeftNames.head, gain: 1 }),
  /** Layers whose B was divided by the scales of a normalisation that the base model has folded into its weights. */
  unfolded: z.array(z.string()).default([]),
  weightsSha256: z.string(),
  baseWeightsSha256: z.string().nullable(),
});
type AnnealPart = z.infer<typeof annealSchema>;
const configSchema = z.object({ peft_type: z.literal('LORA'), anneal: annealSchema });

export interface PeftBase {
  /** What PEFT shall know the base model by. */
  readonly id: string;
  readonly sha256: string;
  /** `BaseModel.headGain`; 1 when absent. */
  readonly headGain?: number;
}

export interface PeftWriteOptions {
  /** What the layers are called in Python; Anneal's own names when absent. */
  readonly names?: PeftNames;
  /** With which dropout it was trained, for who goes on with it in Python. */
  readonly loraDropout?: number;
  /** What the exported state is worth, for who uses it; nothing here reads it. */
  readonly evaluation?: ExportedFigures;
  /** Layers that the folder has in another scale than the base model; told to who reads it. */
  readonly unfolded?: readonly string[];
}

export interface PeftFolder {
  readonly state: ModelState;
  /** See {@link PeftWriteOptions.unfolded}. */
  readonly unfolded: readonly string[];
}

/**
 * Writes the folder (made where missing; other files in it are left alone). The configuration comes last and
 * names the hashes of the weights, so an interrupted write is never taken for a complete adapter.
 * @throws AppError SHAPE_MISMATCH when the state belongs to another base; the system's error, for instance ENOSPC
 */
export async function writePeftFolder(
  folder: string,
  state: ModelState,
  base: PeftBase,
  options: PeftWriteOptions = {},
): Promise<void> {
  if (base.sha256 !== state.baseSha256) {
    throw new AppError('SHAPE_MISMATCH', `This adapter does not belong to the base model ${base.id}.`);
  }
  const names = options.names ?? ownPeftNames;
  const head = { module: names.head, gain: base.headGain ?? 1 };
  const modules = fuseLayers(
    [...state.lora.values()].filter((layer) => layer.r > 0),
    names,
  );
  const weights = encodeSafetensors(adapterTensors(state, modules, head), { format: 'pt' });
  const baseWeights = state.base.size === 0 ? null : encodeSafetensors(state.base, { format: 'pt' });
  const config = {
    ...adapterConfig(modules, base.id, head.module, options.loraDropout ?? 0),
    anneal: {
      formatVersion: (options.unfolded ?? []).length === 0 ? 1 : 2,
      baseSha256: state.baseSha256,
      classes: [...state.classes],
      layers: describeLayers(state, modules),
      emptyLayers: [...state.lora.values()]
        .filter((layer) => layer.r === 0)
        .map(({ module, scale, a, b }) => ({ module, scale, aShape: [...a.dims], bShape: [...b.dims] })),
      head,
      unfolded: [...(options.unfolded ?? [])],
      weightsSha256: sha256(weights),
      baseWeightsSha256: baseWeights === null ? null : sha256(baseWeights),
      ...(options.evaluation !== undefined && { evaluation: options.evaluation }),
    } satisfies AnnealPart & Pick<PeftWriteOptions, 'evaluation'>,
  };
  makeFolder(folder);
  await writeFileAtomically(join(folder, peftWeightsName), weights);
  if (baseWeights === null) await rm(join(folder, baseWeightsName), { force: true });
  else await writeFileAtomically(join(folder, baseWeightsName), baseWeights);
  await writeFileAtomically(
    join(folder, peftConfigName),
    Buffer.from(`${JSON.stringify(config, null, 2)}\n`),
  );
}

/**
 * Reads back exactly what {@link writePeftFolder} wrote. (Where layers of different scales share a module, or the
 * head's gain is no power of two, the last bit of a value may be rounded.)
 * @throws AppError MODEL_FILE_INVALID naming the file and what was expected
 */
export async function readPeftFolder(folder: string): Promise<PeftFolder> {
  const { anneal } = parseConfig(await readNamed(folder, peftConfigName));
  const weights = await readHashed(folder, peftWeightsName, anneal.weightsSha256);
  const tensors = decodeSafetensors(weights, peftWeightsName).tensors;
  const unused = new Set(tensors.keys());
  const take = (name: string): FloatTensor => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw invalid(peftWeightsName, `tensor "${name}" is missing`);
    unused.delete(name);
    return tensor;
  };

  const lora = new Map<string, LoraLayer>();
  for (const described of anneal.layers) {
    const stored = described.place?.module ?? described.module;
    const a = take(`${peftPrefix}${stored}.lora_A.weight`);
    const b = take(`${peftPrefix}${stored}.lora_B.weight`);
    lora.set(described.module, readLayer(described, a, b));
  }
  for (const { module, scale, aShape, bShape } of anneal.emptyLayers) {
    const layer = { module, r: 0, scale, a: emptyTensor(aShape), b: emptyTensor(bShape) };
    lora.set(module, checkedLayer(layer, peftConfigName));
  }
  const head = new Map<string, FloatTensor>();
  for (const name of unused) {
    const start = `${peftPrefix}${anneal.head.module}.`;
    if (!name.startsWith(start)) throw invalid(peftWeightsName, `tensor "${name}" was not expected`);
    const key = name.slice(start.length);
    head.set(key, scaledTensor(tensors.get(name)!, key === 'weight' ? 1 / anneal.head.gain : 1));
  }
  const base = new Map<string, FloatTensor>();
  if (anneal.baseWeightsSha256 !== null) {
    const bytes = await readHashed(folder, baseWeightsName, anneal.baseWeightsSha256);
    for (const [name, tensor] of decodeSafetensors(bytes, baseWeightsName).tensors) base.set(name, tensor);
  }
  const state = { baseSha256: anneal.baseSha256, classes: anneal.classes, lora, head, base };
  return { state, unfolded: anneal.unfolded };
}

function readLayer(
  { module, r, scale, place }: AnnealPart['layers'][number],
  a: FloatTensor,
  b: FloatTensor,
): LoraLayer {
  if (place === undefined || place.rows === 0)
    return checkedLayer({ module, r, scale, a, b }, peftWeightsName);
  const whole = checkedLayer({ module: place.module, r: a.dims[0]!, scale, a, b }, peftWeightsName);
  const fits =
    a.dims.length === 2 && place.rankStart + r <= whole.r && place.rowStart + place.rows <= b.dims[0]!;
  if (!fits)
    throw invalid(peftConfigName, `the layer "${module}" lies outside the factors of "${place.module}"`);
  const block = sliceFactors(whole, { ...place, r });
  return { module, r, scale, a: block.a, b: scaledTensor(block.b, place.scale / scale) };
}

/** In the order of the state; `rows` 0 says that the module is the layer under another name. */
function describeLayers(state: ModelState, modules: readonly PeftModule[]): AnnealPart['layers'] {
  const places = new Map(
    modules.flatMap((module) => module.parts.map((part) => [part.layer.module, { module, part }] as const)),
  );
  return [...state.lora.values()]
    .filter((layer) => layer.r > 0)
    .map((layer) => {
      const { module, r, scale, b } = layer;
      const { module: whole, part } = places.get(module)!;
      if (whole.module === module) return { module, r, scale };
      const rows = whole.b === b ? 0 : b.dims[0]!;
      const { rankStart, rowStart } = part;
      return {
        module,
        r,
        scale,
        place: { module: whole.module, rankStart, rowStart, rows, scale: whole.scale },
      };
    });
}

function adapterTensors(
  state: ModelState,
  modules: readonly PeftModule[],
  head: { module: string; gain: number },
): Map<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const { module, a, b } of modules) {
    tensors.set(`${peftPrefix}${module}.lora_A.weight`, a);
    tensors.set(`${peftPrefix}${module}.lora_B.weight`, b);
  }
  for (const [name, tensor] of state.head) {
    const gain = name === 'weight' ? head.gain : 1;
    tensors.set(`${peftPrefix}${head.module}.${name}`, scaledTensor(tensor, gain));
  }
  return tensors;
}

function adapterConfig(
  modules: readonly PeftModule[],
  baseId: string,
  head: string,
  loraDropout: number,
): Record<string, unknown> {
  const r = Math.max(1, ...modules.map((module) => module.r));
  // PEFT scales by lora_alpha / r, each module by its own of both.
  const alphaOf = (module: PeftModule) => module.scale * module.r;
  const alpha = modules.length === 0 ? r : alphaOf(modules.find((module) => module.r === r)!);
  return {
    peft_type: 'LORA',
    task_type: null,
    base_model_name_or_path: baseId,
    r,
    lora_alpha: alpha,
    target_modules: modules.map(({ module }) => module),
    rank_pattern: pattern(modules, (module) => module.r, r),
    alpha_pattern: pattern(modules, alphaOf, alpha),
    modules_to_save: [head],
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_dropout: loraDropout,
    use_dora: false,
    use_rslora: false,
  };
}

/**
 * Empty when all modules have the common value; otherwise names every module, longest name first, because PEFT
 * takes the first key that a module's name ends with. Keys are expressions for PEFT: where the full stop in a plain
 * name makes it match another module, too, the keys are written as expressions for whole names.
 */
function pattern(
  modules: readonly PeftModule[],
  pick: (module: PeftModule) => number,
  common: number,
): Record<string, number> {
  if (modules.every((module) => pick(module) === common)) return {};
  const longestFirst = [...modules].sort((x, y) => y.module.length - x.module.length);
  const table = longestFirst.map((module): [string, number] => [module.module, pick(module)]);
  if (!modules.every(({ module }) => /^[\w.-]+$/.test(module))) return Object.fromEntries(table.map(escaped));
  const found = compilePatternTable(table, 'rank_pattern');
  const isClear = modules.every((module) => found(module.module) === pick(module));
  return Object.fromEntries(isClear ? table : table.map(escaped));
}

const escaped = ([name, value]: [string, number]): [string, number] => [
  `^${name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}`,
  value,
];

function parseConfig(bytes: Buffer): z.infer<typeof configSchema> {
  try {
    return configSchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw invalid(peftConfigName, 'expected a LoRA adapter that Anneal exported', error);
  }
}

/** A tensor without values. @throws AppError MODEL_FILE_INVALID when the shape asks for some */
function emptyTensor(dims: readonly number[]): FloatTensor {
  if (!dims.includes(0)) throw invalid(peftConfigName, `expected an empty shape, found [${dims.join(', ')}]`);
  return floatTensor(dims);
}
