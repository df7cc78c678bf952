/** What both ends of a transfer know before they write or read a file. */

import type { RunConfig } from '../../config/run-config.ts';
import {
  compareText,
  nameOfA,
  nameOfB,
  nameOfBase,
  nameOfHead,
  type StateShape,
} from '../../lora/state-file.ts';
import type { BaseModel } from '../../models/base-model.ts';
import { elementCount, type FloatTensor } from '../../shared/tensor.ts';
import { fixesA, type LayerShape, type SeededRowsConfig, seededRank } from '../fixed-factor.ts';
import type { RoundPlan } from '../strategy.ts';

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
export interface Parts {
  a: boolean;
  b: boolean;
  head: boolean;
  /**
   * Set where A is fixed but rotates when the rank falls: of how many seeded rows a layer's A is made. Then layers of a
   * lower rank send how they are mixed (`coefficientsOf`), [r, seeded], in the place of A.
   */
  seeded?: (layer: LayerShape) => number;
}

export function partsOf({ config, plan }: Pick<WireContext, 'config' | 'plan'>): Parts {
  return { a: plan.sends !== 'b', b: plan.sends !== 'a', head: !config.localHead };
}

/** What of a global state travels, at the plan of the round that starts from it. */
export function globalPartsOf({ config, plan }: Pick<WireContext, 'config' | 'plan'>): Parts {
  const parts = partsOf({ config, plan });
  return fixesA(config) && !parts.a ? { ...parts, seeded: seededRank(config) } : parts;
}

/** Of the [r, seeded] numbers that say how A is made of seeded rows. */
export const nameOfCoefficients = (module: string): string => `lora.${module}.lora_A.mixing`;

export const isWhole = ({ a, b, head }: Parts): boolean => a && b && head;

/** A tensor of a file: `axis` is the one along which int8 has a scale per place, null for a single scale. */
export interface WireEntry {
  readonly name: string;
  readonly dims: readonly number[];
  readonly axis: 0 | 1 | null;
}

/** The travelling tensors of a state of this shape, sorted by name (UTF-16 code units). */
export function wireEntries(shape: Pick<StateShape, 'lora' | 'head' | 'base'>, parts: Parts): WireEntry[] {
  const entries: WireEntry[] = [];
  for (const layer of shape.lora) {
    const { module, r, aDims, bDims } = layer;
    const seeded = parts.seeded?.(layer) ?? r;
    if (parts.a) entries.push({ name: nameOfA(module), dims: aDims, axis: 0 });
    else if (r < seeded) entries.push({ name: nameOfCoefficients(module), dims: [r, seeded], axis: 0 });
    // A scale per component of the factors, not per output: B is tall and narrow.
    if (parts.b) entries.push({ name: nameOfB(module), dims: bDims, axis: 1 });
  }
  const plain = (name: string, dims: readonly number[]): WireEntry => {
    const isMatrix = dims.filter((size) => size > 1).length >= 2;
    return { name, dims, axis: isMatrix ? 0 : null };
  };
  if (parts.head) entries.push(...shape.head.map(({ name, dims }) => plain(nameOfHead(name), dims)));
  entries.push(...shape.base.map(({ name, dims }) => plain(nameOfBase(name), dims)));
  return entries.sort((x, y) => compareText(x.name, y.name));
}

/** Number of model values that travel; scales of int8 are bytes but no values. */
export function travellingValues(shape: Pick<StateShape, 'lora' | 'head' | 'base'>, parts: Parts): number {
  return wireEntries(shape, parts).reduce((sum, { dims }) => sum + elementCount(dims), 0);
}
