/**
 * The way of a round's updates into the next global state, the same for every strategy:
 *
 *     shares → clipping (privacy at the coordinator) → robust choice of updates → merge → noise → server optimiser
 *
 * Head and base weights are always merged value by value. How layers are merged is the strategy's own rule.
 */
import type { LoraLayer, ModelState } from '../../lora/model-state.ts';
import { AppError } from '../../shared/errors.ts';
import type { AggregateResult, AggregateRound, Drift, ServerMemory, StrategyTraits } from '../strategy.ts';
import { onBehalfOf } from '../unmergeable.ts';
import { createProductSums, type ProductSums } from './product-sums.ts';
import { createValueMerge, type ValueMerge } from './value-merge.ts';
import { type WeighedUpdate, weighUpdates } from './weighed-updates.ts';

export interface MergedLayers {
  /** The layers with which the next round starts. */
  lora: ReadonlyMap<string, LoraLayer>;
  /** Layers that become part of the base model; see `FrozenBaseDelta`. None by default. */
  frozenBaseDelta?: ReadonlyMap<string, LoraLayer>;
  /** 1 by default. */
  energyKept?: number;
  /** What the server optimiser keeps of the layers. */
  memory?: ServerMemory;
}

/** How a strategy merges layers. One is made for each round. */
export interface LayerMerge {
  /** For rules that need more of an update than its products, which are summed up for all rules. */
  add?(update: WeighedUpdate): void;
  /** @param sums Σ share·s·B·A of the updates */
  finish(sums: ProductSums): Promise<MergedLayers>;
}

/**
 * @param rule null when factors are averaged value by value, like head and base weights, or there are none
 * @param merges by what robust rules compare updates; as the strategy's traits say
 */
export async function aggregate(
  round: AggregateRound,
  rule: ((round: AggregateRound) => LayerMerge) | null,
  merges: StrategyTraits['merges'] = 'values',
): Promise<AggregateResult> {
  const { global, plan } = round;
  refuseUnprotected(round, rule !== null);
  const updates = await weighUpdates(round, merges);
  const values = createValueMerge(round, rule === null);
  const sums = createProductSums(hasProducts(plan) ? global : { ...global, lora: new Map() }, round.products);
  const layers = rule?.(round) ?? null;
  for await (const update of updates.read()) {
    await onBehalfOf(update.siteId, async () => {
      values.add(update);
      layers?.add?.(update);
      if (hasProducts(plan)) await sums.add(update.state, update.share);
    });
  }
  const { state, memory } = values.finish(updates.sites);
  const merged = await layers?.finish(sums);
  return {
    state: merged === undefined ? state : { ...state, lora: merged.lora },
    frozenBaseDelta:
      merged?.frozenBaseDelta === undefined ? null : frozenBaseOf(global, { lora: merged.frozenBaseDelta }),
    memory: joined(memory, merged?.memory),
    energyKept: merged?.energyKept ?? 1,
    drift: await driftOf(values, sums),
    exclusions: updates.exclusions,
  };
}

/** Without a factor B that travels there are no products to sum up. */
const hasProducts = ({ sends }: AggregateRound['plan']) => sends === 'both' || sends === 'b';

/** A part for under the global state: layers, base weights or both; never a head. */
export function frozenBaseOf(
  { baseSha256, classes }: ModelState,
  part: Partial<Pick<ModelState, 'lora' | 'base'>>,
): ModelState {
  return { baseSha256, classes, lora: new Map(), head: new Map(), base: new Map(), ...part };
}

/** Noise that a rule would silently leave out of its products must never pass for protection. */
function refuseUnprotected({ config, global }: AggregateRound, ownRule: boolean): void {
  if (config.privacy?.at !== 'coordinator' || !ownRule || global.lora.size === 0) return;
  throw new AppError(
    'CONFIG_INVALID',
    `The strategy "${config.strategy}" does not merge factors value by value, so noise from the coordinator ` +
      'would not protect them. Let the sites add it, or choose another strategy.',
  );
}

/**
 * Drift from sums alone: Σ w_k‖u_k‖² and ‖ū‖². For layers u_k = ΔW_k − ΔW_start, of which the norms follow from those
 * of the products and from their inner products with the start.
 */
async function driftOf(values: ValueMerge, sums: ProductSums): Promise<Drift> {
  const ofValues = values.drift();
  const startSquared = sums.startSquared();
  const energy = await sums.energy();
  const across = startSquared - 2 * (await sums.alongStart());
  const squares = ofValues.squares + sums.squares() + across;
  const spreadSquared = Math.max(0, squares - (ofValues.meanSquared + energy + across));
  // Sites that changed nothing but by rounding agree.
  const share = squares <= 1e-12 * startSquared || squares === 0 ? 0 : Math.min(1, spreadSquared / squares);
  return { spread: Math.sqrt(spreadSquared), share };
}

function joined(x: ServerMemory | null, y: ServerMemory | undefined): ServerMemory | null {
  return x === null && y === undefined ? null : new Map([...(x ?? []), ...(y ?? [])]);
}
