/**
 * What travels between a site and the coordinator: LoRA factors, the head, and (only in `full` and `last-k` stages) base
 * weights; and the one way to take a state apart into named tensors and put it together again. Words are those of Hugging
 * Face PEFT.
 */
import { elementCount, type FloatTensor } from '../shared/tensor.ts';

/** A tensor as far as its values do not matter: every {@link FloatTensor} is one. */
export interface Shape {
  readonly dims: readonly number[];
}

/**
 * One adapted layer: ΔW = scale · B·A.
 *
 * Linear layer of weight [out, in]: `a` is [r, in], `b` is [out, r].
 * Convolution of weight [out, in, kh, kw]: `a` is [r, in, kh, kw] (a kh×kw convolution to r channels),
 * `b` is [out, r, 1, 1]. Read as matrices, a is r × (in·kh·kw) and b is out × r in both cases.
 * The scale is stored, not derived from alpha / r, so that ΔW does not change when r does.
 */
export interface LayerOf<T> {
  readonly module: string;
  readonly r: number;
  readonly scale: number;
  readonly a: T;
  readonly b: T;
}

export interface StateOf<T> {
  /** SHA-256 of the base model that this state belongs to. */
  readonly baseSha256: string;
  /** Class names in the order of the head's rows. */
  readonly classes: readonly string[];
  /** Adapted layers by module name; empty when only a head was trained. */
  readonly lora: ReadonlyMap<string, LayerOf<T>>;
  /** `weight` [classes, embedding] and `bias` [classes]. */
  readonly head: ReadonlyMap<string, T>;
  /** Base weights that replace those of the base model, by their name in it; empty in LoRA stages. */
  readonly base: ReadonlyMap<string, T>;
}

export type LoraLayer = LayerOf<FloatTensor>;
export type ModelState = StateOf<FloatTensor>;
/** Names and shapes without values: enough to count and to measure. Every {@link ModelState} is one. */
export type StateShape = StateOf<Shape>;

/** The shapes of a layer's factors. */
export type FactorShapes = Pick<LayerOf<Shape>, 'a' | 'b'>;

/** Those that they have at rank `r`. */
export function shapesAtRank({ a, b }: FactorShapes, r: number): FactorShapes {
  const [, ...inDims] = a.dims;
  const [out = 0, , ...bTail] = b.dims;
  return { a: { dims: [r, ...inDims] }, b: { dims: [out, r, ...bTail] } };
}

/** Largest rank that a product of factors of these shapes can have. */
export function rankLimit({ a, b }: FactorShapes): number {
  return Math.min(b.dims[0]!, elementCount(a.dims.slice(1)));
}

/** Which tensors of a state are meant: factors A and B of all layers, the head, base weights. */
export interface Parts {
  readonly a: boolean;
  readonly b: boolean;
  readonly head: boolean;
  readonly base: boolean;
}

export const allParts: Parts = { a: true, b: true, head: true, base: true };

/** The factors that a plan's `trains` or `sends` names. */
export const factorParts = (factors: 'both' | 'a' | 'b' | 'none'): Pick<Parts, 'a' | 'b'> => ({
  a: factors === 'both' || factors === 'a',
  b: factors === 'both' || factors === 'b',
});

export const partsWithout = (parts: Parts, others: Parts): Parts => ({
  a: parts.a && !others.a,
  b: parts.b && !others.b,
  head: parts.head && !others.head,
  base: parts.base && !others.base,
});

const factorPrefix = 'lora.';
export const headPrefix = 'head.';
export const basePrefix = 'base.';

/** Names of a state's tensors: in its files, on the wire, and wherever tensors are passed by name. */
export const nameOfA = (module: string): string => `${factorPrefix}${module}.lora_A.weight`;
export const nameOfB = (module: string): string => `${factorPrefix}${module}.lora_B.weight`;
export const nameOfHead = (name: string): string => `${headPrefix}${name}`;
export const nameOfBase = (name: string): string => `${basePrefix}${name}`;

export const isFactorName = (name: string): boolean => name.startsWith(factorPrefix);

/** The name under which a site's or a server's memory on disk has a tensor: `lora.<module>.a` for a factor A. */
export const memoryName = (name: string): string =>
  name.replace(
    /^(lora\..+)\.lora_([AB])\.weight$/s,
    (_, layer: string, side: string) => `${layer}.${side.toLowerCase()}`,
  );

/** The tensors of a state that are meant, by name; nothing is copied. */
export function tensorsOf<T>(
  state: Pick<StateOf<T>, 'lora' | 'head' | 'base'>,
  parts: Parts = allParts,
): Map<string, T> {
  const tensors = new Map<string, T>();
  for (const [module, { a, b }] of state.lora) {
    if (parts.a) tensors.set(nameOfA(module), a);
    if (parts.b) tensors.set(nameOfB(module), b);
  }
  if (parts.head) for (const [name, tensor] of state.head) tensors.set(nameOfHead(name), tensor);
  if (parts.base) for (const [name, tensor] of state.base) tensors.set(nameOfBase(name), tensor);
  return tensors;
}

/** A state with another tensor in the place of each; ranks, scales and names stay. */
export function mapTensors<T, U>(state: StateOf<T>, change: (tensor: T, name: string) => U): StateOf<U> {
  const lora = new Map<string, LayerOf<U>>();
  for (const [module, layer] of state.lora) {
    const [a, b] = [change(layer.a, nameOfA(module)), change(layer.b, nameOfB(module))];
    lora.set(module, { ...layer, a, b });
  }
  const changed = (tensors: ReadonlyMap<string, T>, nameOf: (name: string) => string) =>
    new Map([...tensors].map(([name, tensor]) => [name, change(tensor, nameOf(name))]));
  return { ...state, lora, head: changed(state.head, nameOfHead), base: changed(state.base, nameOfBase) };
}

/** The state with the tensors of these names replaced; the others stay. Ranks must be those of the state. */
export const withTensors = (state: ModelState, tensors: ReadonlyMap<string, FloatTensor>): ModelState =>
  mapTensors(state, (own, name) => tensors.get(name) ?? own);

export const mapLayers = (state: ModelState, change: (layer: LoraLayer) => LoraLayer): ModelState => ({
  ...state,
  lora: new Map([...state.lora].map(([module, layer]) => [module, change(layer)])),
});

/** Number of values of the parts that are meant. */
export function countParameters(
  state: Pick<StateShape, 'lora' | 'head' | 'base'>,
  parts: Parts = allParts,
): number {
  return [...tensorsOf(state, parts).values()].reduce((sum, { dims }) => sum + elementCount(dims), 0);
}
