/** Adapters on the way out: as PEFT files, or written into the base model's weights. */
import { z } from 'zod';
import type { ExportedFigures } from '../evaluation/floors.ts';
import { mergeState } from '../lora/merge.ts';
import type { ModelState } from '../lora/model-state.ts';
import { encodeSafetensors } from '../lora/safetensors.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import type { FloatTensor } from '../shared/tensor.ts';
import { writeFileAtomically } from '../store/atomic-file.ts';
import type { BaseModel } from './base-model.ts';
import { readNormScales } from './folded-norm.ts';
import { exportOnnxModel } from './onnx/export.ts';
import { checkState, exportPeftFolder } from './peft-import.ts';
import { peftNameStyles } from './peft-names.ts';

/** `peft`: a folder; `onnx`: one ONNX file of the network with adapter and head in it; `weights`: one safetensors file of the base model's weights with the adapter in them. */
export const adapterFormats = ['peft', 'onnx', 'weights'] as const;

export const exportOptionsSchema = z.object({
  format: z.enum(adapterFormats).optional(),
  names: z.enum(peftNameStyles).optional(),
  /** See {@link readNormScales}: `none`, or the path of a file. */
  bnScales: z.string().min(1).max(4096).optional(),
});
export type ExportOptions = z.infer<typeof exportOptionsSchema>;

/** What a run says of an adapter beside its values. */
export interface TrainedWith {
  readonly loraDropout?: number;
  /** Scale of an ArcFace head; absent for a softmax head. */
  readonly arcScale?: number;
  readonly evaluation?: ExportedFigures;
}

/**
 * @param target the folder (`peft`) or file to write; a file that is there is replaced
 * @throws AppError CONFIG_INVALID when the target cannot be written, DISK_FULL, and what {@link exportPeftFolder} throws
 */
export async function writeAdapter(
  target: string,
  state: ModelState,
  base: BaseModel,
  options: ExportOptions & TrainedWith = {},
): Promise<void> {
  const { format = 'peft', names, bnScales, loraDropout, arcScale, evaluation } = options;
  const figures = evaluation === undefined ? {} : { evaluation };
  try {
    if (format === 'peft') {
      const named = names === undefined ? {} : { names };
      const dropout = loraDropout === undefined ? {} : { loraDropout };
      const normScales = bnScales === undefined ? undefined : await readNormScales(bnScales);
      await exportPeftFolder(target, state, base, { ...named, ...dropout, ...figures, normScales });
    } else if (format === 'onnx') {
      await exportOnnxModel(base, state, target, { ...figures, ...(arcScale !== undefined && { arcScale }) });
    } else {
      await writeFileAtomically(target, encodeMergedWeights(state, base, evaluation));
    }
  } catch (cause) {
    const error = toAppError(cause);
    if (error.code !== 'INTERNAL' || (cause as { syscall?: unknown }).syscall === undefined) throw error;
    throw new AppError('CONFIG_INVALID', 'The adapter cannot be written there.', {
      action: `Name a ${format === 'peft' ? 'folder' : 'file'} that you can write to.`,
      cause,
    });
  }
}

/**
 * The base model's weights by their names in Anneal with ΔW added, and the head, which then reads the embedding itself,
 * as `head.weight` and `head.bias`.
 */
export function encodeMergedWeights(
  state: ModelState,
  base: BaseModel,
  evaluation?: ExportedFigures,
): Uint8Array {
  checkState(state, base);
  const tensors = new Map<string, FloatTensor>(mergeState(base, state));
  for (const [name, tensor] of state.head) {
    const gain = name === 'weight' ? base.headGain : 1;
    const data = gain === 1 ? tensor.data : tensor.data.map((value) => value * gain);
    tensors.set(`head.${name}`, { ...tensor, data });
  }
  const classes = JSON.stringify(state.classes);
  const figures = evaluation === undefined ? {} : { evaluation: JSON.stringify(evaluation) };
  const about = { base: base.id, baseSha256: base.sha256, classes, ...figures };
  return encodeSafetensors(tensors, { format: 'pt', ...about });
}
