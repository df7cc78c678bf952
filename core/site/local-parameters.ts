/**
 * A site's local parameters of a run: factors and a head that do not travel, and what rounding took from its last update. One
 * safetensors file per round, named by the store's table `site_memory`.
 */
import { z } from 'zod';
import type { RunConfig } from '../config/run-config.ts';
import type { LoraLayer, ModelState } from '../lora/model-state.ts';
import { decodeSafetensors, encodeSafetensors, invalid } from '../lora/safetensors.ts';
import { type FloatTensor, sameDims } from '../shared/tensor.ts';
import type { RoundPlan } from '../strategy/strategy.ts';
import type { Residual } from '../strategy/wire/wire.ts';

const format = 'anneal-site-memory';
const formatVersion = '1';
const keptPrefix = 'kept.';
const residualPrefix = 'residual.';

export interface LocalParameters {
  /** By `lora.<module>.a`, `lora.<module>.b` and `head.<name>`. */
  kept: ReadonlyMap<string, FloatTensor>;
  residual: Residual | null;
}

const metadataSchema = z.object({
  format: z.literal(format),
  formatVersion: z.literal(formatVersion),
  baseSha256: z.string(),
  classes: z.string(),
});

/** Which parts of its model a site keeps to itself: what trains and does not travel. */
export function keptParts(config: Pick<RunConfig, 'localHead'>, plan: Pick<RoundPlan, 'trains' | 'sends'>) {
  return {
    a: plan.sends === 'b' && plan.trains !== 'b',
    b: plan.sends === 'a' && plan.trains !== 'a',
    head: config.localHead,
  };
}

type Kept = ReturnType<typeof keptParts>;

/** Whether a site has an local parameters in such a run. */
export function hasLocalParameters(
  config: Pick<RunConfig, 'localHead' | 'wire'>,
  plan: Pick<RoundPlan, 'trains' | 'sends'>,
): boolean {
  const { a, b, head } = keptParts(config, plan);
  return a || b || head || config.wire.errorFeedback;
}

/** Those tensors of a trained state. */
export function takeKept(state: ModelState, kept: Kept): Map<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const [module, { a, b }] of state.lora) {
    if (kept.a) tensors.set(`lora.${module}.a`, a);
    if (kept.b) tensors.set(`lora.${module}.b`, b);
  }
  if (kept.head) for (const [name, tensor] of state.head) tensors.set(`head.${name}`, tensor);
  return tensors;
}

/** The state with the site's own tensors in it. One that has another shape by now stays as the state has it. */
export function withKept(state: ModelState, own: ReadonlyMap<string, FloatTensor>): ModelState {
  const pick = (name: string, tensor: FloatTensor) => {
    const mine = own.get(name);
    return mine !== undefined && sameDims(mine.dims, tensor.dims) ? mine : tensor;
  };
  const lora = new Map<string, LoraLayer>();
  for (const [module, layer] of state.lora) {
    const a = pick(`lora.${module}.a`, layer.a);
    const b = pick(`lora.${module}.b`, layer.b);
    lora.set(module, { ...layer, a, b });
  }
  const head = new Map([...state.head].map(([name, tensor]) => [name, pick(`head.${name}`, tensor)]));
  return { ...state, lora, head };
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
