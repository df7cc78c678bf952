/** Which weights of a base model train in a mode, whatever the model. */
import type { TrainMode } from '../config/local-training.ts';
import type { Graph, GraphNode } from '../graph/graph.ts';
import type { BaseModel } from './base-model.ts';

/** A BatchNormalization's running mean and variance: measured, never trained. */
const statisticInputs = [3, 4];

const known = new WeakMap<BaseModel, Map<number, readonly string[]>>();

/**
 * Names of the base weights that a mode trains and sends, in the order of `base.weights`.
 *
 * `last-k` takes the last k blocks and what follows them: the layers of these blocks, every weight that is used
 * behind one of them (biases, norms, the last normalisation), and what shares the block's name (a norm before
 * its first layer).
 */
export function trainableWeights(base: BaseModel, mode: TrainMode, lastK: number): string[] {
  if (mode === 'full') return [...base.weights.keys()];
  if (mode !== 'last-k' || lastK <= 0) return [];
  const byCount = known.get(base) ?? new Map<number, readonly string[]>();
  known.set(base, byCount);
  const names = byCount.get(lastK) ?? lastBlockWeights(base, lastK);
  byCount.set(lastK, names);
  return [...names];
}

/** Weights among `names` that the optimiser must leave alone, because they are statistics. */
export function statisticWeights(base: BaseModel, names: readonly string[]): Set<string> {
  const wanted = new Set(names);
  const found = new Set<string>();
  for (const node of base.buildGraph(1).nodes) {
    for (const name of statisticsOf(node)) if (wanted.has(name)) found.add(name);
  }
  return found;
}

function statisticsOf(node: GraphNode): string[] {
  if (node.op !== 'BatchNormalization') return [];
  return statisticInputs.map((index) => node.inputs[index] ?? '').filter((name) => name !== '');
}

function lastBlockWeights(base: BaseModel, lastK: number): string[] {
  const blocks = [...new Set(base.layers.map((layer) => layer.block))].sort((a, b) => a - b);
  const trained = new Set(blocks.slice(-lastK));
  const layerWeights = new Set(
    base.layers.filter((layer) => trained.has(layer.block)).map((layer) => layer.weight),
  );
  const names = weightsBehind(base.buildGraph(1), layerWeights);
  for (const prefix of blockPrefixes(base, trained)) {
    for (const name of base.weights.keys()) if (name.startsWith(prefix)) names.add(name);
  }
  const statistics = statisticWeights(base, [...names]);
  return [...base.weights.keys()].filter((name) => names.has(name) && !statistics.has(name));
}

/** The given initializers and all that only values computed from them meet. */
function weightsBehind(graph: Graph, start: ReadonlySet<string>): Set<string> {
  const behind = new Set(start);
  const weights = new Set(start);
  const before = new Set<string>();
  for (const node of graph.nodes) {
    const follows = node.inputs.some((input) => behind.has(input));
    for (const input of node.inputs)
      if (graph.initializers.has(input)) (follows ? weights : before).add(input);
    if (follows) for (const output of node.outputs) behind.add(output);
  }
  // A weight that is also used further up would change what the frozen part computes.
  return new Set([...weights].filter((name) => start.has(name) || !before.has(name)));
}

/** The part of the name, up to a dot, that the layers of a trained block share and no other block's layer has. */
function blockPrefixes(base: BaseModel, trained: ReadonlySet<number>): string[] {
  const prefixes: string[] = [];
  for (const block of trained) {
    const own = base.layers.filter((layer) => layer.block === block).map((layer) => layer.weight);
    const prefix = sharedStem(own);
    const foreign = base.layers.some((layer) => !trained.has(layer.block) && layer.weight.startsWith(prefix));
    if (prefix !== '' && !foreign) prefixes.push(prefix);
  }
  return prefixes;
}

function sharedStem(names: readonly string[]): string {
  const [first = '', ...others] = names;
  let length = first.length;
  for (const name of others) {
    let same = 0;
    while (same < length && name[same] === first[same]) same++;
    length = same;
  }
  return first.slice(0, first.lastIndexOf('.', length - 1) + 1);
}
