/**
 * A site's local parameters of a run: factors and a head that do not travel, and what rounding took from its last update. One
 * safetensors file per round, named by the store's table `site_memory`.
 */
import { z } from 'zod';
import type { RunConfig } from '../config/run-config.ts';
import { type ModelState, mapTensors, memoryName, type Parts, tensorsOf } from '../lora/model-state.ts';
import { decodeSafetensors, encodeSafetensors, invalid } from '../lora/safetensors.ts';
import { type FloatTensor, sameDims } from '../shared/tensor.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import { keepsParts } from '../strategy/what-travels.ts';
import type { Residual } from '../strategy/wire/wire.ts';

const format = 'anneal-site-memory';
const formatVersion = '1';
const keptPrefix = 'kept.';
const residualPrefix = 'residual.';

export interface LocalParameters {
  /** What trains and does not travel, by `memoryName`. */
  kept: ReadonlyMap<string, FloatTensor>;
  residual: Residual | null;
}

const metadataSchema = z.object({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  baseSha256: z.string(),
  classes: z.string(),
});

/** Whether a site has local parameters in such a run. */
export function hasLocalParameters(
  config: Pick<RunConfig, 'localHead' | 'wire'>,
  plan: Pick<RoundPlan, 'trains' | 'sends'>,
): boolean {
  return keepsParts(config, plan) || config.wire.errorFeedback;
}

/** Those tensors of a trained state. */
export function takeKept(state: ModelState, parts: Parts): Map<string, FloatTensor> {
  return new Map([...tensorsOf(state, parts)].map(([name, tensor]) => [memoryName(name), tensor]));
}

/** The state with the site's own tensors in it. One that has another shape by now stays as the state has it. */
export function withKept(state: ModelState, kept: ReadonlyMap<string, FloatTensor>): ModelState {
  return mapTensors(state, (tensor, name) => {
    const own = kept.get(memoryName(name));
    return own !== undefined && sameDims(own.dims, tensor.dims) ? own : tensor;
  });
}

/** Null when there is nothing to keep. */
export function encodeLocalParameters(
  { kept, residual }: LocalParameters,
  { baseSha256, classes }: Pick<ModelState, 'baseSha256' | 'classes'>,
): Uint8Array | null {
  if (kept.size === 0 && (residual === null || residual.size === 0)) return null;
  const tensors = new Map<string, FloatTensor>();
  for (const [name, tensor] of kept) tensors.set(`${keptPrefix}${name}`, tensor);
  for (const [name, tensor] of residual ?? []) tensors.set(`${residualPrefix}${name}`, tensor);
  const metadata = { format, formatVersion, baseSha256, classes: JSON.stringify(classes) };
  return encodeSafetensors(tensors, metadata);
}

/** @throws AppError MODEL_FILE_INVALID for another base model, other classes, or anything that is no such file */
export function decodeLocalParameters(
  bytes: Uint8Array,
  name: string,
  { baseSha256, classes }: Pick<ModelState, 'baseSha256' | 'classes'>,
): LocalParameters {
  const file = decodeSafetensors(bytes, name, { finite: true });
  const metadata = metadataSchema.safeParse(file.metadata);
  if (!metadata.success) throw invalid(name, `expected the metadata of an ${format}`, metadata.error);
  if (metadata.data.baseSha256 !== baseSha256) throw invalid(name, 'it belongs to another base model');
  if (metadata.data.classes !== JSON.stringify(classes))
    throw invalid(name, 'its classes are not those of the run');
  const kept = new Map<string, FloatTensor>();
  const residual = new Map<string, FloatTensor>();
  for (const [tensor, value] of file.tensors) {
    if (tensor.startsWith(keptPrefix)) kept.set(tensor.slice(keptPrefix.length), value);
    else if (tensor.startsWith(residualPrefix)) residual.set(tensor.slice(residualPrefix.length), value);
    else throw invalid(name, `tensor "${tensor}" was not expected`);
  }
  return { kept, residual: residual.size === 0 ? null : residual };
}
