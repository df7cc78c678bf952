/** The formats that a base model can be imported from, and how each is opened. */
import { stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { z } from 'zod';
import { type Alignment, alignmentSchema, originalAlignment } from '../config/alignment.ts';
import { AppError } from '../shared/errors.ts';
import { alignBase, type BaseModel } from './base-model.ts';
import { inspectOnnxFile } from './onnx/inspect.ts';
import { type OpenChoice, openOnnxModel } from './onnx/onnx-model.ts';
import { type OnnxDescription, onnxOptionsSchema } from './onnx/options.ts';
import { listVitFiles, openVitFolder, vitOptionsSchema } from './vit-folder.ts';
import { readVitSettings } from './vit-settings.ts';

/** Of a model whose files and person say nothing about it. */
export const unstatedLicence = 'not stated';

export type ModelFormat = 'vit' | 'onnx';

/** What a person may say at an import; which of it means something depends on the format. */
export const importOptionsSchema = z.strictObject({
  id: z.string().optional(),
  licence: z.string().min(1).max(200).optional(),
  /** Side of the square input in pixels. */
  imageSize: z.number().int().positive().max(4096).optional(),
  pooling: z.enum(['class', 'mean', 'first']).optional(),
  mean: z.array(z.number()).length(3).optional(),
  deviation: z.array(z.number().positive()).length(3).optional(),
  /** Values of a pixel, 0…range: those that `mean` and `deviation` refer to (1 when absent); alone, those that the network takes. */
  range: z.union([z.literal(1), z.literal(255)]).optional(),
  channelOrder: z.enum(['rgb', 'bgr']).optional(),
  /** Name of the value of an ONNX file that is the embedding. */
  output: z.string().min(1).optional(),
  /** How faces are cut out for it; {@link assumedAlignment} when absent. */
  alignment: alignmentSchema.optional(),
});
export type ImportOptions = z.infer<typeof importOptionsSchema>;

/** Where a model comes from: a folder and the files in it that it needs, the one to open first. */
export interface ModelSource {
  readonly format: ModelFormat;
  readonly folder: string;
  readonly files: readonly string[];
  /** What the files themselves say, if anything. */
  readonly statedLicence: string | null;
  /** A name to make an id of. */
  readonly name: string;
  /** What an ONNX file holds, even when it cannot be used. */
  readonly onnx: OnnxDescription | null;
}

/**
 * Finds out what a path is.
 * @throws AppError NOT_FOUND | MODEL_FILE_INVALID
 */
export async function findModelSource(path: string): Promise<ModelSource> {
  const status = await stat(path).catch(() => null);
  if (status === null) {
    throw new AppError('NOT_FOUND', `There is nothing at "${path}".`, {
      action: 'Give the folder of a vision transformer (config.json and model.safetensors) or an ONNX file.',
    });
  }
  if (status.isDirectory()) {
    const [files, { licence }] = [await listVitFiles(path), await readVitSettings(path)];
    return {
      format: 'vit',
      folder: path,
      files,
      statedLicence: licence ?? null,
      name: basename(resolve(path)),
      onnx: null,
    };
  }
  if (/\.(?:safetensors|json|bin|pt|pth)$/i.test(path)) {
    throw new AppError(
      'MODEL_FILE_INVALID',
      `${basename(path)} alone is not a model that Anneal can import.`,
      {
        action: /\.(?:bin|pt|pth)$/i.test(path)
          ? 'Weights of PyTorch alone do not say what to compute. Export the network to ONNX with torch.onnx.export, or save a ' +
            'vision transformer as a folder with model.save_pretrained(FOLDER, safe_serialization=True).'
          : 'Give the folder of a vision transformer (config.json and model.safetensors) or an ONNX file.',
      },
    );
  }
  const onnx = await inspectOnnxFile(path);
  return {
    format: 'onnx',
    folder: dirname(path),
    files: [basename(path), ...(onnx.externalFiles ?? [])],
    statedLicence: null,
    name: basename(path, extname(path)),
    onnx,
  };
}

/** `ViT_Tiny (patch16)` becomes `vit-tiny-patch16`. */
export function proposeId(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9.]+/g, '-')
    .replace(/^[.-]+|[.-]+$/g, '')
    .slice(0, 64)
    .replace(/[.-]+$/, '');
}

/** Largest deviation of pixels of 0…1 that makes sense; 1 is that of pixels that are fed as they are. */
const mostDeviation = 1;

/**
 * Means and deviations of pixels of 0…1, as models keep them.
 * @throws AppError CONFIG_INVALID for numbers that are those of another range
 */
function inUnitRange<T extends ImportOptions>({ range, ...options }: T): Omit<T, 'range'> {
  const { mean, deviation } = options;
  if (range !== undefined && mean === undefined && deviation === undefined) {
    return { ...options, mean: [0, 0, 0], deviation: [1, 1, 1].map((value) => value / range) };
  }
  const largest = Math.max(...(mean ?? [0]).map(Math.abs), ...(deviation ?? [0]));
  if (range !== 255 && largest > mostDeviation) {
    throw new AppError(
      'CONFIG_INVALID',
      `The mean and the standard deviation of pixels of 0…1 cannot be as large as ${largest}.`,
      { action: 'Add --range 255 if they are those of pixels of 0…255.' },
    );
  }
  const scaled = (values: readonly number[]) => values.map((value) => value / (range ?? 1));
  return {
    ...options,
    ...(mean === undefined ? {} : { mean: scaled(mean) }),
    ...(deviation === undefined ? {} : { deviation: scaled(deviation) }),
  };
}

/**
 * The options of the format itself.
 * @throws AppError CONFIG_INVALID naming an option that the format does not have or whose value is wrong
 */
export function formatOptions(format: ModelFormat, options: ImportOptions): Record<string, unknown> {
  const { id: _id, licence: _licence, alignment: _alignment, ...said } = options;
  const rest = inUnitRange(said);
  // The formats came to their names apart from each other; a person sees one.
  const named = format === 'onnx' ? { ...rest, inputSize: rest.imageSize, imageSize: undefined } : rest;
  const given = Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
  const settled = { id: true, licence: true } as const;
  const parsed =
    format === 'onnx'
      ? onnxOptionsSchema.omit(settled).safeParse(given)
      : vitOptionsSchema.omit(settled).safeParse(given);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  if (unknown !== undefined) {
    throw new AppError(
      'CONFIG_INVALID',
      `The setting "${unknown}" does not apply to a model of format ${format}.`,
    );
  }
  throw new AppError('CONFIG_INVALID', `The setting "${issue.path.join('.')}" is invalid: ${issue.message}.`);
}

/** What tells how the files of a model are to be read. */
export interface ModelFiles {
  readonly id: string;
  readonly licence: string;
  readonly format: ModelFormat;
  /** As {@link formatOptions} gave them. */
  readonly options: Record<string, unknown>;
  /** {@link originalAlignment} when absent: imported before a base model had one. */
  readonly alignment?: Alignment | undefined;
  /** The one that is opened first. */
  readonly files: readonly { readonly name: string }[];
}

/** Of the networks that ArcFace and its successors publish: they all take faces aligned to one template of this size. */
const arcfaceSide = 112;

/**
 * What a network most likely takes when nobody says it: an import prints it as assumed.
 * @param inputSize side of the square input in pixels
 */
export const assumedAlignment = ({
  format,
  inputSize,
}: {
  format: ModelFormat;
  inputSize: number;
}): Alignment => (format === 'onnx' && inputSize === arcfaceSide ? 'arcface-112' : originalAlignment);

/**
 * Opens the files of a model at its import.
 * @param said the person's word on the alignment
 * @throws AppError as {@link openModelFiles}
 */
export async function openNewModel(
  folder: string,
  model: Omit<ModelFiles, 'alignment'>,
  said: Alignment | undefined,
): Promise<{ base: BaseModel; alignmentAssumed: boolean }> {
  const network = await openModelFiles(folder, model, { isNew: true });
  const assumed = assumedAlignment({ format: model.format, inputSize: network.inputSize });
  return { base: alignBase(network, said ?? assumed), alignmentAssumed: said === undefined };
}

/**
 * Opens the files of a model.
 * @throws AppError MODEL_FILE_INVALID | OPERATOR_UNSUPPORTED | CONFIG_INVALID
 */
export async function openModelFiles(
  folder: string,
  model: ModelFiles,
  choice: OpenChoice = {},
): Promise<BaseModel> {
  return alignBase(await openNetwork(folder, model, choice), model.alignment ?? originalAlignment);
}

async function openNetwork(folder: string, model: ModelFiles, choice: OpenChoice): Promise<BaseModel> {
  const { id, licence, files } = model;
  if (model.format === 'onnx') {
    const options = onnxOptionsSchema.parse({ ...model.options, id, licence });
    return openOnnxModel(join(folder, files[0]!.name), options, choice);
  }
  return openVitFolder(folder, vitOptionsSchema.parse({ ...model.options, id, licence }));
}
