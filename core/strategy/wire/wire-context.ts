/** What both ends of a transfer know before they write or read a file. */
import type { WirePrecision } from '../../config/round-options.ts';
import type { RunConfig } from '../../config/run-config.ts';
import {
  allParts,
  basePrefix,
  isFactorName,
  type LayerOf,
  type ModelState,
  nameOfB,
  type Parts,
  type Shape,
  type StateShape,
  tensorsOf,
} from '../../lora/model-state.ts';
import { invalid } from '../../lora/safetensors.ts';
import { inFileOrder } from '../../lora/state-file.ts';
import type { BaseModel } from '../../models/base-model.ts';
import type { FloatTensor } from '../../shared/tensor.ts';
import { fixesA, type SeededRowsConfig, seededRank } from '../fixed-factor.ts';
import type { RoundPlan } from '../strategy.ts';
import { sentParts } from '../what-travels.ts';

/** Settings of a run that say what travels, and how precisely. */
export type WireConfig = Pick<RunConfig, 'strategy' | 'wire' | 'localHead' | 'freezeA'> & SeededRowsConfig;
/** Part of a round's plan that says what travels. */
export type WirePlan = Pick<RoundPlan, 'sends'>;
/** Base weights travel as differences from those of the base model, unless a state has replaced them before. */
export type WireBase = Pick<BaseModel, 'sha256' | 'weights'>;

export interface WireContext {
  config: WireConfig;
  plan: WirePlan;
  base: WireBase;
}

/** What rounding took from the tensors of an update, by their names in its file. */
export type Residual = ReadonlyMap<string, FloatTensor>;

/** What of a state travels. */
export interface WireParts extends Parts {
  /**
   * Set where A is fixed but rotates when the rank falls: of how many seeded rows a layer's A is made. Then layers of a
   * lower rank send how they are mixed (`coefficientsOf`), [r, seeded], in the place of A.
   */
  seeded?: (layer: LayerOf<Shape>) => number;
}

/** A site's update, a global state, or a part of the frozen base delta, which has no head; files hold these words. */
export type FileKind = 'update' | 'global' | 'foundation';

/** What both ends agree on before the file is written or read. */
export interface FileForm {
  kind: FileKind;
  precision: WirePrecision;
  parts: WireParts;
}

export function updateForm({ config, plan }: Pick<WireContext, 'config' | 'plan'>): FileForm {
  return { kind: 'update', precision: config.wire.up, parts: sentParts({ config, plan }) };
}

/** @param context `plan`: of the round that starts from this state; after the last round, the last round's */
export function globalForm({ config, plan }: Pick<WireContext, 'config' | 'plan'>): FileForm {
  const sent = sentParts({ config, plan });
  const parts = fixesA(config) && !sent.a ? { ...sent, seeded: seededRank(config) } : sent;
  return { kind: 'global', precision: config.wire.down, parts };
}

/** Factors under a state always travel whole. */
export function frozenBaseForm({ config }: Pick<WireContext, 'config'>): FileForm {
  return { kind: 'foundation', precision: config.wire.down, parts: { ...allParts, head: false } };
}

/** Whether a file of this form is the state's own (`encodeModelState`), as it is: nothing rounded, nothing kept back. */
export const isPlainFile = ({ kind, precision, parts: { a, b, head } }: FileForm): boolean =>
  precision === 'fp32' && a && b && (head || kind === 'foundation');

/** Of the [r, seeded] coefficients of A in its seeded rows; files hold this name. */
export const nameOfCoefficients = (module: string): string => `lora.${module}.lora_A.mixing`;

/** A tensor of a file: `axis` is the one along which int8 has a scale per place, null for a single scale. */
export interface WireEntry {
  readonly name: string;
  readonly dims: readonly number[];
  readonly axis: 0 | 1 | null;
}

/** The travelling tensors of a state of this shape, in the order of the file. */
export function wireEntries(
  shape: Pick<StateShape, 'lora' | 'head' | 'base'>,
  parts: WireParts,
): WireEntry[] {
  const tensors = tensorsOf(shape, parts);
  for (const layer of shape.lora.values()) {
    const rows = parts.seeded?.(layer) ?? layer.r;
    if (layer.r < rows) tensors.set(nameOfCoefficients(layer.module), { dims: [layer.r, rows] });
  }
  const factorsB = new Set([...shape.lora.keys()].map(nameOfB));
  return inFileOrder(tensors).map(([name, { dims }]) => {
    const isMatrix = dims.filter((size) => size > 1).length >= 2;
    // A scale per component of the factors, not per output: B is tall and narrow.
    return { name, dims, axis: factorsB.has(name) ? 1 : isFactorName(name) || isMatrix ? 0 : null };
  });
}

/** @throws AppError MODEL_FILE_INVALID when the file is of another base model or other classes */
export function requireSame(
  file: { baseSha256: string; classes: readonly string[] },
  expected: Pick<ModelState, 'baseSha256' | 'classes'>,
  name: string,
): void {
  if (file.baseSha256 !== expected.baseSha256) throw invalid(name, 'it belongs to another base model');
  const { classes } = expected;
  const same = file.classes.length === classes.length && classes.every((own, i) => own === file.classes[i]);
  if (!same) throw invalid(name, 'its classes are not those of the run');
}

/** The base model's own weight behind a name in a file. */
export function baseWeightOf({ weights }: WireBase, name: string): FloatTensor | undefined {
  return name.startsWith(basePrefix) ? weights.get(name.slice(basePrefix.length)) : undefined;
}

/** The base model's own weights that a file holds others for. @throws AppError MODEL_FILE_INVALID */
export function replacedWeights(names: readonly string[], base: WireBase, file: string): ModelState['base'] {
  const replaced = names.filter((name) => name.startsWith(basePrefix));
  return new Map(
    replaced.map((name) => {
      const [own, weight] = [name.slice(basePrefix.length), baseWeightOf(base, name)];
      if (weight === undefined) throw invalid(file, `the base model has no weight "${own}"`);
      return [own, weight];
    }),
  );
}
