/** What pays on processors with ONNX Runtime, and may not on other devices. */
import type { Graph } from '../graph.ts';
import { mergeCommonSubexpressions } from './common-subexpressions.ts';
import { turnNarrowConvolutions } from './narrow-convolutions.ts';
import { splitPrelu } from './split-prelu.ts';
import { composeTransposes, readRotatedFactors, withoutUnread } from './transposed-factors.ts';

export function lowerForProcessor(graph: Graph): Graph {
  const convolved = turnNarrowConvolutions(splitPrelu(graph));
  return withoutUnread(mergeCommonSubexpressions(readRotatedFactors(composeTransposes(convolved))));
}
