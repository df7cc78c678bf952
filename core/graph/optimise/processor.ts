/** What pays on processors with ONNX Runtime, and may not on other devices. */
import type { Graph } from '../graph.ts';
import { turnNarrowConvolutions } from './narrow-convolutions.ts';
import { splitPrelu } from './split-prelu.ts';

export function lowerForProcessor(graph: Graph): Graph {
  return turnNarrowConvolutions(splitPrelu(graph));
}
