/** Which convolutions of a file had a batch normalisation behind them that the exporter has folded into their weights. */
import type { Graph, GraphNode } from '../../graph/graph.ts';
import { moduleOfParameter } from './layer-names.ts';

interface Candidate {
  readonly node: GraphNode;
  /** Names in the graph. */
  readonly weight: string;
  readonly bias: string | undefined;
}

const normalisations = new Set([
  ...[
    'BatchNormalization',
    'InstanceNormalization',
    'LayerNormalization',
    'GroupNormalization',
    'LpNormalization',
  ],
]);
const moving = new Set(['Transpose', 'Reshape', 'Flatten', 'Squeeze', 'Unsqueeze', 'Identity']);

/**
 * A convolution with a bias and no normalisation behind it, whose weight and bias do not bear the names of one module: folding
 * gives an exporter new tensors, which it has to name itself. Files whose names say nothing look folded: who knows better says so.
 * @param stemOf name of the initializer in the file that a weight of the graph was made of
 * @returns weights in the graph
 */
export function foldedConvolutions(
  graph: Graph,
  candidates: readonly Candidate[],
  stemOf: (weight: string) => string,
): Set<string> {
  const readers = new Map<string, GraphNode[]>();
  for (const node of graph.nodes) {
    for (const input of node.inputs) {
      const list = readers.get(input) ?? [];
      list.push(node);
      readers.set(input, list);
    }
  }
  const isNormalised = (value: string): boolean =>
    (readers.get(value) ?? []).some(
      (node) => normalisations.has(node.op) || (moving.has(node.op) && isNormalised(node.outputs[0]!)),
    );
  const folded = new Set<string>();
  for (const { node, weight, bias } of candidates) {
    if (node.op !== 'Conv' || bias === undefined) continue;
    const module = moduleOfParameter(stemOf(weight));
    const isNamed = module !== '' && module === moduleOfParameter(stemOf(bias));
    if (!isNamed && !isNormalised(node.outputs[0]!)) folded.add(weight);
  }
  return folded;
}
