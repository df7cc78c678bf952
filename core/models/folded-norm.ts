/**
 * Convolutions whose weights hold the scales of a batch normalisation. Exporters compute γ/√(σ² + ε)·W once and leave the
 * normalisation out; an adapter that was trained before that adds ΔW to W, not to the product. With the scales g of each
 * output channel its ΔW becomes diag(g)·ΔW, which is what it does there: exactly B's rows times g.
 */

import type { LoraLayer } from '../lora/model-state.ts';
import { invalid } from '../lora/safetensors.ts';
import { openSafetensors } from '../lora/safetensors-file.ts';
import { AppError, toAppError } from '../shared/errors.ts';
import { elementCount, type FloatTensor, floatTensor } from '../shared/tensor.ts';
import type { AdaptableLayer } from './base-model.ts';

/** Scales by the names of modules in the base model's file; `none`: a person says that nothing was folded. */
export type NormScales = 'none' | ReadonlyMap<string, FloatTensor>;

/** What `--bn-scales` takes for {@link NormScales} of 'none'. */
const noScales = 'none';

/**
 * @param given `none`, or the path of a safetensors file with one vector [out channels] per convolution
 * @throws AppError MODEL_FILE_INVALID | FILE_UNREADABLE
 */
export async function readNormScales(given: string): Promise<NormScales> {
  if (given === noScales) return noScales;
  try {
    await using file = await openSafetensors(given, { finite: true });
    const scales = new Map<string, FloatTensor>();
    for (const name of file.entries.keys()) scales.set(name.replace(/\.scale$/, ''), await file.read(name));
    return scales;
  } catch (cause) {
    const error = toAppError(cause);
    if (error.code !== 'INTERNAL') throw error;
    throw new AppError('FILE_UNREADABLE', 'The file of scales (--bn-scales) cannot be read.', { cause });
  }
}

/**
 * @param direction `fold`: factors of the original network become those of the base model; `unfold`: the other way
 * @throws AppError OPERATOR_UNSUPPORTED when the layer's normalisation was folded and its scales are not known,
 *   MODEL_FILE_INVALID when they do not fit
 */
export function rescaled(
  layer: AdaptableLayer,
  factors: LoraLayer,
  scales: NormScales | undefined,
  direction: 'fold' | 'unfold',
): LoraLayer {
  if (layer.foldedNorm !== true || factors.r === 0 || scales === noScales) return factors;
  const name = layer.peftModule ?? layer.module;
  const own = scales?.get(name);
  if (own === undefined) throw unknownScales(name, scales !== undefined);
  const { b } = factors;
  const rows = b.dims[0]!;
  const fits = elementCount(own.dims) === rows && own.data.every((value) => value !== 0);
  if (!fits)
    throw invalid(
      '--bn-scales',
      `the scales of "${name}" have the shape [${own.dims.join(', ')}]: expected [${rows}], none of them 0`,
    );
  const width = elementCount(b.dims) / rows;
  const data = b.data.map((value, at) => {
    const scale = own.data[Math.floor(at / width)]!;
    return direction === 'fold' ? value * scale : value / scale;
  });
  return { ...factors, b: floatTensor(b.dims, data) };
}

function unknownScales(name: string, hasFile: boolean): AppError {
  const message = hasFile
    ? `The file of scales (--bn-scales) has none for "${name}", whose batch normalisation was folded into it.`
    : `The convolution "${name}" was exported with its batch normalisation folded into it, so its adapter means something else in Python than here.`;
  return new AppError('OPERATOR_UNSUPPORTED', message, {
    action:
      'Export the network with its batch normalisation kept (torch.onnx.export with training=TrainingMode.PRESERVE) and import that; or give ' +
      'the scales with --bn-scales FILE (docs/models.md); if nothing was folded, say --bn-scales none.',
  });
}
