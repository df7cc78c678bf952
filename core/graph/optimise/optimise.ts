/** The order in which graphs are rewritten before they run. */
import type { Graph } from '../graph.ts';
import { mergeCommonSubexpressions } from './common-subexpressions.ts';
import { absorbScalarFactors, chainSums } from './gemm-terms.ts';
import { turnNarrowConvolutions } from './narrow-convolutions.ts';
import { shareGelu, splitPrelu } from './split-activations.ts';
import { composeTransposes, readRotatedFactors, withoutUnread } from './transposed-factors.ts';

/** Each pass can open the way for another one; after this many rounds nothing is left to find. */
const rounds = 3;

/**
 * Rewrites a training graph into one that computes the same with fewer passes over memory. The runtime fuses
 * what it knows from inference; these are the patterns that only a backward pass has.
 */
export function optimiseTrainingGraph(graph: Graph): Graph {
  let result = mergeCommonSubexpressions(shareGelu(mergeCommonSubexpressions(graph)));
  for (let round = 0; round < rounds; round++) result = chainSums(absorbScalarFactors(result));
  return withoutUnusedValues(result);
}

/** What pays on processors with ONNX Runtime, and may not on other devices. */
export function lowerForProcessor(graph: Graph): Graph {
  const convolved = turnNarrowConvolutions(splitPrelu(graph));
  return withoutUnread(mergeCommonSubexpressions(readRotatedFactors(composeTransposes(convolved))));
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
