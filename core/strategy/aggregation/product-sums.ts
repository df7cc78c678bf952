/** The sum of a round's low-rank products, layer by layer: Σ w_k·s_k·B_k·A_k, never averaged factor by factor. */
import type { MatrixProducts } from '../../linalg/matrix-products.ts';
import { factorInnerProduct } from '../../lora/factor-inner-product.ts';
import {
  createFactorSum,
  type Decomposition,
  type FactorPart,
  type FactorSum,
} from '../../lora/factor-sum.ts';
import { type LoraLayer, type ModelState, rankLimit } from '../../lora/model-state.ts';

/** Sums over some of the sites, and what drift needs of them. */
export interface PartialSums {
  readonly parts: ReadonlyMap<string, FactorPart>;
  readonly squares: number;
}

export interface ProductSums {
  /** Layers of any rank up to the global state's, and of any scale. */
  add(state: ModelState, share: number): Promise<void>;
  /** Adds what others have summed up, as if their sites had been added here. */
  merge(part: PartialSums): Promise<void>;
  /** Factors are rounded to float32. */
  toPart(): PartialSums;
  sum(module: string): FactorSum;
  /** Largest rank that the layer's sum can have. */
  limit(module: string): number;
  /** @throws AppError UPDATE_REJECTED when the sum is not finite */
  decompose(module: string, maxRank: number): Promise<Decomposition>;
  /** ‖Σ share·ΔW_k‖² over all layers. Costs little for layers that were decomposed before. */
  energy(): Promise<number>;
  /** Σ share·‖ΔW_k‖² over all layers. */
  squares(): number;
  /** Σ share·⟨ΔW_k, ΔW of the start⟩ over all layers; remembered like `energy` until something is added. */
  alongStart(): Promise<number>;
  /** ‖ΔW of the start‖² over all layers. */
  startSquared(): number;
}

/** Empty sums for the layers of a global state. */
export function createProductSums(global: ModelState, products: MatrixProducts): ProductSums {
  const sums = new Map(
    [...global.lora].map(([module, { a, b }]) => [module, createFactorSum(a.dims, b.dims, products)]),
  );
  const starts = new Map([...global.lora].filter(([, layer]) => changesSomething(layer)));
  const energies = new Map<string, number>();
  const along = new Map<string, number>();
  let squares = 0;

  const sumOf = (module: string) => sums.get(module)!;

  return {
    async add(state, share) {
      for (const [module, layer] of state.lora) {
        energies.delete(module);
        along.delete(module);
        await sumOf(module).add({ ...layer, weight: share });
        squares += share * factorInnerProduct(layer, layer);
      }
    },
    async merge(part) {
      for (const [module, factors] of part.parts) {
        energies.delete(module);
        along.delete(module);
        await sumOf(module).add(factors);
      }
      squares += part.squares;
    },
    toPart: () => ({
      parts: new Map([...sums].map(([module, sum]) => [module, sum.toPart()])),
      squares,
    }),
    sum: sumOf,
    limit: (module) => rankLimit(global.lora.get(module)!),
    async decompose(module, maxRank) {
      const found = await sumOf(module).decompose(maxRank);
      if (!energies.has(module)) energies.set(module, found.energy);
      return found;
    },
    async energy() {
      let total = 0;
      for (const [module, sum] of sums) {
        const known = energies.get(module) ?? (await sum.decompose(0)).energy;
        energies.set(module, known);
        total += known;
      }
      return total;
    },
    squares: () => squares,
    async alongStart() {
      let total = 0;
      for (const [module, start] of starts) {
        // One product with the whole sum costs as much as one with each of a few sites.
        const known = along.get(module) ?? (await sumOf(module).innerProduct({ weight: 1, ...start }));
        along.set(module, known);
        total += known;
      }
      return total;
    },
    startSquared: () =>
      [...starts.values()].reduce((sum, layer) => sum + factorInnerProduct(layer, layer), 0),
  };
}

/** A layer whose B is zero everywhere, as at the start of a run, changes nothing. */
const changesSomething = ({ b }: LoraLayer) => b.data.some((value) => value !== 0);
