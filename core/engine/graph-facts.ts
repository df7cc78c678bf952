/** What planning needs to know of a graph. */
import { convolutionShare } from '../graph/count-flops.ts';
import type { Graph } from '../graph/graph.ts';
import { peakBytes, sizeBytes } from './micro-batch.ts';

export interface GraphFacts {
  /** See {@link peakBytes}. */
  peakBytes: number;
  weightBytes: number;
  /** Of the results, for instance gradients. */
  outputBytes: number;
  /** See {@link convolutionShare}. */
  convolutionShare: number;
}

export function graphFacts(graph: Graph): GraphFacts {
  const weights = [...graph.initializers.values()];
  return {
    peakBytes: peakBytes(graph),
    weightBytes: weights.reduce((bytes, { data }) => bytes + data.byteLength, 0),
    outputBytes: graph.outputs.reduce((bytes, name) => bytes + sizeBytes(graph.types.get(name)), 0),
    convolutionShare: convolutionShare(graph),
  };
}
