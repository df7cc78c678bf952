/**
 * Rewrites a training graph into one that computes the same with fewer passes over memory. The runtime fuses
 * what it knows from inference; these are the patterns that only a backward pass has.
 */
import type { Graph } from '../graph.ts';
import { chainSums } from './chained-sums.ts';
import { mergeCommonSubexpressions } from './common-subexpressions.ts';
import { absorbScalarFactors } from './scalar-factors.ts';
import { shareGelu } from './shared-gelu.ts';

/** Each pass can open the way for another one; after this many rounds nothing is left to find. */
const rounds = 3;

export function optimiseTrainingGraph(graph: Graph): Graph {
  let result = mergeCommonSubexpressions(shareGelu(mergeCommonSubexpressions(graph)));
  for (let round = 0; round < rounds; round++) result = chainSums(absorbScalarFactors(result));
  return withoutUnusedValues(result);
}

/** Types and constants that no node names any more are dropped. */
function withoutUnusedValues(graph: Graph): Graph {
  const used = new Set([...graph.inputs, ...graph.outputs]);
  for (const node of graph.nodes) for (const name of [...node.inputs, ...node.outputs]) used.add(name);
  return {
    ...graph,
    initializers: new Map([...graph.initializers].filter(([name]) => used.has(name))),
    types: new Map([...graph.types].filter(([name]) => used.has(name))),
  };
}
