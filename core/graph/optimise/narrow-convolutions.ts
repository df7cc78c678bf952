/**
 * Convolutions with few output channels and weights that are fed, as LoRA's factor A has them, for processors:
 * ONNX Runtime copies the picture once per kernel position before it multiplies. With fewer outputs than inputs it
 * is cheaper to multiply first, for all positions at once, and to shift and add the few results.
 */
import { integerOf } from '../attributes.ts';
import type { Graph, GraphNode } from '../graph.ts';
import { GraphBuilder } from '../graph-builder.ts';
import { windowOf } from '../infer-convolution.ts';

/** Measured on face-resnet-128: with r = 8 it takes about two thirds of the time for 32 to 256 channels. */
const leastNarrowing = 3;

export function splitNarrowConvolutions(graph: Graph): Graph {
  if (!graph.nodes.some((node) => isNarrow(node, graph))) return graph;
  const outer = [...graph.inputs, ...graph.initializers.keys()];
  const types = new Map(outer.map((name) => [name, graph.types.get(name)!]));
  const builder = GraphBuilder.from({ ...graph, nodes: [], outputs: [], types });
  builder.reserve([...graph.types.keys(), ...graph.nodes.map(({ name }) => name)]);
  for (const node of graph.nodes) {
    if (isNarrow(node, graph)) shiftAndAdd(builder, node, graph);
    else builder.copyNode(node, graph.types);
  }
  for (const output of graph.outputs) builder.output(output);
  return builder.build();
}

function isNarrow({ op, inputs, attributes }: GraphNode, graph: Graph): boolean {
  const [x, weight, bias] = inputs as [string, string, string | undefined];
  if (op !== 'Conv' || bias || graph.initializers.has(weight) || integerOf(attributes, 'group', 1) !== 1)
    return false;
  const [out, channels, ...kernel] = graph.types.get(weight)!.dims as [number, number, number, number];
  const isPicture = graph.types.get(x)!.dims.length === 4;
  return isPicture && kernel.some((size) => size > 1) && out * leastNarrowing <= channels;
}

/** y = Σ over kernel positions of the shifted picture times that position's weights [out, in]. */
function shiftAndAdd(builder: GraphBuilder, node: GraphNode, graph: Graph): void {
  const [x, weight] = node.inputs as [string, string];
  const [out, channels, rows, columns] = builder.dimsOf(weight) as [number, number, number, number];
  const [, , height, width] = graph.types.get(node.outputs[0]!)!.dims as [number, number, number, number];
  const { strides, pads, dilations } = windowOf(node.attributes, [rows, columns]);
  const [top, left, bottom, right] = pads as [number, number, number, number];
  const positions = builder.reshape(builder.transpose(weight, [2, 3, 0, 1]), [
    rows * columns * out,
    channels,
    1,
    1,
  ]);
  const padded = pads.some((size) => size > 0) ? builder.pad(x, [0, 0, top, left, 0, 0, bottom, right]) : x;
  const products = builder.conv(padded, positions);
  const parts = Array.from({ length: rows * columns }, (_, position) => {
    const row = Math.floor(position / columns) * dilations[0]!;
    const column = (position % columns) * dilations[1]!;
    return builder.slice(
      products,
      [position * out, row, column],
      [(position + 1) * out, row + (height - 1) * strides[0]! + 1, column + (width - 1) * strides[1]! + 1],
      [1, 2, 3],
      [1, ...strides],
    );
  });
  const sum: GraphNode = { op: 'Sum', name: node.name, inputs: parts, outputs: node.outputs, attributes: {} };
  builder.copyNode(sum, graph.types);
}
