/**
 * Operators that ONNX Runtime 1.30 computes wrongly on WebGPU, found by running the whole gradient table on it
 * (test/integration/webgpu.test.ts). A wrong gradient says nothing and ruins a training, so such a graph is refused.
 */
import { integerOf } from '../../graph/attributes.ts';
import type { Graph, GraphNode } from '../../graph/graph.ts';

/** What is wrong with a graph on WebGPU, in words; undefined when nothing is known to be. */
export function findWebGpuFault(graph: Graph): string | undefined {
  for (const node of graph.nodes) {
    const fault = faultOf(graph, node);
    if (fault !== undefined) return `${fault} (operator ${node.op}, node "${node.outputs[0]}")`;
  }
  return undefined;
}

function faultOf(graph: Graph, node: GraphNode): string | undefined {
  if (node.op === 'ConvTranspose' && mixesGroupsWrongly(graph, node)) {
    return 'transposed convolutions in groups of several inputs and one output';
  }
  if (node.op === 'Slice' && startsWrongly(graph, node)) {
    return 'slices that run backwards from the middle';
  }
  return undefined;
}

/** Weight of a ConvTranspose: [in, out / group, kh, kw]. */
function mixesGroupsWrongly({ types }: Graph, { inputs, attributes }: GraphNode): boolean {
  const group = integerOf(attributes, 'group', 1);
  const [channels = 0, outPerGroup = 0] = types.get(inputs[1]!)?.dims ?? [];
  return group > 1 && outPerGroup === 1 && channels > group;
}

function startsWrongly({ types, initializers }: Graph, { inputs }: GraphNode): boolean {
  const valuesOf = (position: number) => {
    const tensor = initializers.get(inputs[position] ?? '');
    return tensor === undefined ? undefined : Array.from(tensor.data, Number);
  };
  const starts = valuesOf(1) ?? [];
  const axes = valuesOf(3) ?? starts.map((_, axis) => axis);
  const steps = valuesOf(4) ?? starts.map(() => 1);
  const dims = types.get(inputs[0]!)?.dims ?? [];
  return starts.some((start, i) => {
    const size = dims.at(axes[i]!) ?? 0;
    const from = start < 0 ? start + size : start;
    return steps[i]! < 0 && from < size - 1;
  });
}
