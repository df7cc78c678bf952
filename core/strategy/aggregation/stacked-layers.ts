/** Stacked factors: the sum of the sites' products as one pair of factors, put under all later states. */
import { setImmediate } from 'node:timers/promises';
import { createFactorSum } from '../../lora/factor-sum.ts';
import { type LoraLayer, rankLimit } from '../../lora/model-state.ts';
import { type StackPart, stackFactors } from '../../lora/stack-factors.ts';
import { mixSeed } from '../../shared/random.ts';
import { layerRanks, layerScales } from '../lora-settings.ts';
import type { AggregateRound } from '../strategy.ts';
import type { LayerMerge } from './aggregate.ts';

/**
 * The layers of a round become part of the base model, and the next round starts from fresh factors: A random, B zero.
 * Factors of all sites are held until they would be larger than the matrix that they make up; that layer goes on as
 * the matrix itself, in factors of rank min(out, in).
 */
export function stackedLayers({ config, global, next }: AggregateRound): LayerMerge {
  /** Σ w_k·s_k·B_k·A_k, layer by layer. */
  const stacks = new Map<string, StackPart[]>();
  const ranks = new Map<string, number>();
  for (const module of global.lora.keys()) stacks.set(module, []);
  const limitOf = (module: string) => rankLimit(global.lora.get(module)!);

  return {
    add({ share, state }) {
      for (const [module, layer] of state.lora) {
        const rank = (ranks.get(module) ?? 0) + layer.r;
        ranks.set(module, rank);
        if (rank <= limitOf(module))
          stacks.get(module)!.push({ factors: layer, weight: share * layer.scale });
        else stacks.set(module, []);
      }
    },
    async finish(sums) {
      const rankOf = layerRanks(config, next.rank);
      const scaleOf = layerScales(config);
      const [lora, frozenBaseDelta] = [new Map<string, LoraLayer>(), new Map<string, LoraLayer>()];
      for (const [module, { a, b }] of global.lora) {
        await setImmediate();
        const fits = (ranks.get(module) ?? 0) <= limitOf(module);
        const part = fits ? stackFactors(stacks.get(module)!) : sums.sum(module).toPart();
        frozenBaseDelta.set(module, { module, r: part.a.dims[0]!, scale: 1, a: part.a, b: part.b });
        const r = Math.min(rankOf(module), limitOf(module));
        const scale = scaleOf(module, r);
        const seed = mixSeed(config.seed, 'fresh', next.round, module);
        const fresh = createFactorSum(a.dims, b.dims).truncate(r, scale, { seed });
        lora.set(module, { module, r, scale, a: fresh.a, b: fresh.b });
      }
      return { lora, frozenBaseDelta };
    },
  };
}
