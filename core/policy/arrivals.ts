/**
 * What comes to a site in each round of a run: how large it may be, before the first chunk is fetched, and what it must
 * hold, before anything is computed with it. Follows from the settings and the base model alone.
 */
import type { RunConfig } from '../config/run-config.ts';
import { type ModelState, type StateShape, shapesAtRank, tensorsOf } from '../lora/model-state.ts';
import type { BaseModel } from '../models/base-model.ts';
import { AppError } from '../shared/errors.ts';
import { elementCount, isFiniteTensor, sameDims } from '../shared/tensor.ts';
import { layerScales } from '../strategy/lora-settings.ts';
import { createStateShapes, frozenBaseAfter } from '../strategy/plan-shapes.ts';
import { getStrategy } from '../strategy/registry.ts';
import { fileSizeBytes, frozenBaseForm, globalForm } from '../strategy/wire/wire.ts';
import type { FileForm } from '../strategy/wire/wire-context.ts';
import { highestShape, slackBytes, spreadsRanks, widestWithin } from './leaves.ts';

/** What may lie under the state with which a round starts. */
interface FrozenSoFar {
  parts: number;
  weights: ReadonlySet<string>;
  layers: boolean;
}

export interface Arrivals {
  /** Bytes of the global state with which a round starts, at most. @param round `config.rounds` for the last state */
  stateBytes(round: number): number;
  /** Parts of the frozen base delta under it, and bytes of each, at most. */
  frozenParts(round: number): { count: number; bytes: number };
  /** @throws AppError CONTRACT_BROKEN naming what was not asked for */
  checkState(state: ModelState, round: number): void;
  /** @throws AppError CONTRACT_BROKEN */
  checkFrozenPart(part: ModelState, round: number): void;
}

const bytesPerValue = 4;
/** Name, shape and place of a tensor in a file's header. */
const entryBytes = 1024;

/** @param initial `createRunState(config, base)`, or its shape */
export function createArrivals(config: RunConfig, base: BaseModel, initial: StateShape): Arrivals {
  const strategy = getStrategy(config.strategy);
  const shapes = createStateShapes(config, base);
  const scaleOf = layerScales(config);
  const planOf = (round: number) => strategy.configureTrain(config, Math.min(round, config.rounds - 1));
  /** By round: base weights that its start state replaces, and what lies under it. */
  const before: { replaced: readonly string[]; frozen: FrozenSoFar }[] = [
    { replaced: [], frozen: { parts: 0, weights: new Set(), layers: false } },
  ];

  function priorTo(round: number) {
    for (let known = before.length; known <= round; known++) {
      const { replaced, frozen } = before[known - 1]!;
      const plan = planOf(known - 1);
      const trained = shapes.trainedWeights(plan);
      const after = frozenBaseAfter(config, {
        ...{ plan, next: planOf(known) },
        replaced: trained.length > 0 ? trained : replaced,
        // How many there are decides about sizes only, which are bounded otherwise here.
        ...{ participants: 1, siteRanks: [1] },
      });
      const { part } = after;
      const stacks = part?.layers !== undefined && 'stacked' in part.layers;
      const adapted = stacks ? base.layers.filter(({ module }) => initial.lora.has(module)) : [];
      const weights = [...frozen.weights, ...(part?.weights ?? []), ...adapted.map(({ weight }) => weight)];
      before.push({
        replaced: after.replaced,
        frozen: {
          parts: frozen.parts + (part === null ? 0 : 1),
          weights: new Set(weights),
          layers: frozen.layers || part?.layers !== undefined,
        },
      });
    }
    return before[round]!;
  }

  function largest(round: number): StateShape {
    const { rank } = planOf(round);
    const { replaced } = priorTo(round);
    return spreadsRanks(config, rank)
      ? highestShape(config, shapes, replaced)
      : shapes.shapeOf(rank, replaced);
  }

  return {
    stateBytes(round) {
      const plan = planOf(round);
      const planned = shapes.shapeOf(plan.rank, priorTo(round).replaced);
      const form = globalForm({ config, plan });
      const spreads = spreadsRanks(config, plan.rank);
      const widest = spreads ? widestWithin(planned, largest(round), form) : planned;
      return fileSizeBytes(widest, form) + mixingBytes(planned, form) + slackBytes;
    },
    frozenParts(round) {
      const { parts, weights, layers } = priorTo(round).frozen;
      const base32 = [...weights].reduce((sum, name) => sum + elementCount(base.weights.get(name)!.dims), 0);
      const factors = [...initial.lora.values()].reduce((sum, layer) => {
        const [out = 0] = layer.b.dims;
        const inner = elementCount(layer.a.dims.slice(1));
        return sum + Math.min(out, inner) * (out + inner);
      }, 0);
      const names = fileSizeBytes({ ...initial, head: new Map() }, frozenBaseForm({ config }));
      const values = base32 + (layers ? factors : 0);
      return { count: parts, bytes: 2 * names + bytesPerValue * values + slackBytes };
    },
    checkState(state, round) {
      const plan = planOf(round);
      const { replaced } = priorTo(round);
      const most = largest(round);
      requireTensors(state, withRanksOf(state, initial), replaced, base);
      if (state.head.size !== initial.head.size) throw broken('its classifier is not complete');
      let planned = 0;
      let found = 0;
      for (const [module, own] of shapes.shapeOf(plan.rank, []).lora) {
        const layer = state.lora.get(module);
        if (layer === undefined) throw broken(`the layer "${module}" is missing`);
        const limit = most.lora.get(module)!.r;
        if (layer.r > limit)
          throw broken(`layer "${module}" has rank ${layer.r}; the contract says ${limit} at most`);
        requireScale(module, layer.scale, scaleOf(module, layer.r));
        planned += own.r;
        found += layer.r;
      }
      if (found > planned)
        throw broken(`its factors have ${found} directions in total; the contract says ${planned}`);
    },
    checkFrozenPart(part, round) {
      const { weights, layers } = priorTo(round).frozen;
      if (!layers && part.lora.size > 0) throw broken('it holds layers under the shared model');
      if (part.head.size > 0) throw broken('it holds a classifier under the shared model');
      const own = new Map([...part.lora.keys()].map((module) => [module, initial.lora.get(module)!]));
      for (const module of part.lora.keys())
        if (!initial.lora.has(module)) throw broken(`it holds the layer "${module}", which nobody asked for`);
      requireTensors(part, withRanksOf(part, { ...initial, head: new Map(), lora: own }), [...weights], base);
    },
  };
}

/** How a fixed A is mixed is told for each layer of a lower rank, whichever these are. */
function mixingBytes({ lora }: StateShape, { parts: { seeded } }: FileForm): number {
  if (seeded === undefined) return 0;
  return [...lora.values()].reduce((sum, layer) => sum + bytesPerValue * seeded(layer) ** 2 + entryBytes, 0);
}

/** The shape that a state has which fits the run, at the ranks that it says. */
function withRanksOf(state: StateShape, initial: StateShape): StateShape {
  const lora = new Map(
    [...initial.lora].map(([module, layer]) => {
      const r = state.lora.get(module)?.r ?? layer.r;
      return [module, { ...layer, r, ...shapesAtRank(layer, r) }] as const;
    }),
  );
  return { ...initial, lora, base: new Map() };
}

function requireTensors(
  state: ModelState,
  expected: StateShape,
  replaced: readonly string[],
  base: BaseModel,
): void {
  const known = new Set(replaced);
  const weights = [...state.base.keys()].filter((name) => known.has(name));
  const own = new Map(weights.map((name) => [name, base.weights.get(name)!]));
  const allowed = tensorsOf({ ...expected, base: own });
  for (const [name, tensor] of tensorsOf(state)) {
    const wanted = allowed.get(name);
    if (wanted === undefined) throw broken(`it holds "${name}", which nobody asked for`);
    if (!sameDims(tensor.dims, wanted.dims)) throw broken(`"${name}" has the wrong shape`);
    if (!isFiniteTensor(tensor)) throw broken(`"${name}" holds values that are not finite numbers`);
  }
}

function requireScale(module: string, found: number, wanted: number): void {
  if (Math.abs(found - wanted) > 1e-6 * wanted)
    throw broken(`layer "${module}" has the scale ${found}; the contract says ${wanted}`);
}

export function broken(what: string): AppError {
  return new AppError('CONTRACT_BROKEN', `The shared model of this round breaks the contract: ${what}.`);
}
