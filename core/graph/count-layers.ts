/** How deep a graph is, in layers with weights. */
import type { Graph } from './graph.ts';

const products = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul', 'FusedMatMul']);

/**
 * Convolutions and matrix products that meet something fixed (a weight, also one that was reshaped first), on the way
 * from the inputs to the outputs that has most of them. The product of two values that both depend on the inputs, such
 * as queries and keys, is no layer.
 */
export function countLayers(graph: Graph): number {
  /** Layers before a value; values that do not depend on the inputs are not in it. */
  const depths = new Map<string, number>(graph.inputs.map((input) => [input, 0]));
  for (const { op, inputs, outputs } of graph.nodes) {
    const known = inputs.flatMap((input) => depths.get(input) ?? []);
    if (known.length === 0) continue;
    const isLayer = products.has(op) && inputs.slice(0, 2).some((input) => !depths.has(input));
    const depth = Math.max(...known) + (isLayer ? 1 : 0);
    for (const output of outputs) depths.set(output, depth);
  }
  return Math.max(0, ...graph.outputs.map((output) => depths.get(output) ?? 0));
}
