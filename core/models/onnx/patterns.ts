/**
 * Operators that older exporters wrote out, put together again: Gelu of its erf form (before opset 20) and
 * LayerNormalization of means and squares (before opset 17). Only exact matches whose inner values nobody else reads.
 */
import type { Graph, GraphNode, ValueType } from '../../graph/graph.ts';
import { elementCount, floatTensor } from '../../shared/tensor.ts';

interface Lookup {
  readonly graph: Graph;
  readonly producer: ReadonlyMap<string, GraphNode>;
  readonly readers: ReadonlyMap<string, readonly GraphNode[]>;
}

interface Replacement {
  /** The last node of the pattern, which is replaced. */
  readonly last: GraphNode;
  readonly node: GraphNode;
}

/** The graph with the patterns put together and what nobody reads any more left out. */
export function fusePatterns(graph: Graph): Graph {
  const lookup = createLookup(graph);
  const replaced = new Map<string, GraphNode>();
  const initializers = new Map(graph.initializers);
  const types = new Map(graph.types);
  for (const node of graph.nodes) {
    const found = node.op === 'Erf' ? matchGelu(lookup, node) : undefined;
    if (found !== undefined) replaced.set(found.last.name, found.node);
  }
  for (const node of graph.nodes) {
    const found = node.op === 'Sqrt' ? matchLayerNorm(lookup, node, initializers, types) : undefined;
    if (found !== undefined) replaced.set(found.last.name, found.node);
  }
  const nodes = graph.nodes.map((node) => replaced.get(node.name) ?? node);
  return removeUnread({ ...graph, nodes, initializers, types });
}

function createLookup(graph: Graph): Lookup {
  const producer = new Map<string, GraphNode>();
  const readers = new Map<string, GraphNode[]>();
  for (const node of graph.nodes) {
    for (const output of node.outputs) producer.set(output, node);
    for (const input of new Set(node.inputs)) {
      const list = readers.get(input) ?? [];
      list.push(node);
      readers.set(input, list);
    }
  }
  return { graph, producer, readers };
}

/** Leaves out nodes, initializers and types that lead to no output. */
function removeUnread(graph: Graph): Graph {
  const read = new Set(graph.outputs);
  const nodes: GraphNode[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some((output) => read.has(output))) continue;
    nodes.push(node);
    for (const input of node.inputs) read.add(input);
  }
  for (const input of graph.inputs) read.add(input);
  nodes.reverse();
  for (const node of nodes) for (const output of node.outputs) read.add(output);
  return {
    ...graph,
    nodes,
    initializers: new Map([...graph.initializers].filter(([name]) => read.has(name))),
    types: new Map([...graph.types].filter(([name]) => read.has(name))),
  };
}

/** The value of a scalar constant. */
function scalar({ graph }: Lookup, name: string | undefined): number | undefined {
  const tensor = graph.initializers.get(name ?? '');
  return tensor?.dtype === 'float32' && tensor.data.length === 1 ? Number(tensor.data[0]) : undefined;
}

function isNear(value: number | undefined, wanted: number): boolean {
  return value !== undefined && Math.abs(value - wanted) <= 1e-6 * Math.abs(wanted);
}

/** The only node that reads a value, which is no output of the graph. */
function onlyReader({ graph, readers }: Lookup, value: string): GraphNode | undefined {
  const list = readers.get(value) ?? [];
  return list.length === 1 && !graph.outputs.includes(value) ? list[0] : undefined;
}

/** The operand beside `value` of a node with two, or undefined for another operator. */
function otherOperand(node: GraphNode | undefined, op: string, value: string): string | undefined {
  if (node?.op !== op || node.inputs.length !== 2) return undefined;
  if (node.inputs[0] === value) return node.inputs[1];
  return node.inputs[1] === value ? node.inputs[0] : undefined;
}

/** x·½·(1 + erf(x/√2)), the half taken anywhere. */
function matchGelu(lookup: Lookup, erf: GraphNode): Replacement | undefined {
  const inner = lookup.producer.get(erf.inputs[0]!);
  if (inner === undefined || onlyReader(lookup, inner.outputs[0]!) !== erf) return undefined;
  let x: string | undefined;
  if (inner.op === 'Div' && isNear(scalar(lookup, inner.inputs[1]), Math.SQRT2)) x = inner.inputs[0];
  if (inner.op === 'Mul') {
    const side = inner.inputs.findIndex((name) => isNear(scalar(lookup, name), Math.SQRT1_2));
    if (side >= 0) x = inner.inputs[1 - side];
  }
  const plusOne = onlyReader(lookup, erf.outputs[0]!);
  if (x === undefined || scalar(lookup, otherOperand(plusOne, 'Add', erf.outputs[0]!)) !== 1)
    return undefined;
  let value = plusOne!.outputs[0]!;
  let half = false;
  let timesX = false;
  for (let step = 0; step < 2 && !(half && timesX); step++) {
    const next = onlyReader(lookup, value);
    const other = otherOperand(next, 'Mul', value);
    if (other === undefined) return undefined;
    if (!half && scalar(lookup, other) === 0.5) half = true;
    else if (!timesX && other === x) timesX = true;
    else if (!timesX && !half && isHalfOf(lookup, other, x)) half = timesX = true;
    else return undefined;
    value = next!.outputs[0]!;
  }
  const last = lookup.producer.get(value)!;
  const keepsShape = sameType(lookup.graph.types, x, value);
  if (!half || !timesX || !keepsShape) return undefined;
  return { last, node: { op: 'Gelu', name: last.name, inputs: [x], outputs: last.outputs, attributes: {} } };
}

function isHalfOf(lookup: Lookup, value: string, x: string): boolean {
  const node = lookup.producer.get(value);
  return scalar(lookup, otherOperand(node, 'Mul', x)) === 0.5;
}

function sameType(types: ReadonlyMap<string, ValueType>, a: string, b: string): boolean {
  return types.get(a)?.dims.join() === types.get(b)?.dims.join();
}

/** d = x − mean(x); d / √(mean(d²) + ε), then · scale, then + bias; all over the last axis. */
function matchLayerNorm(
  lookup: Lookup,
  sqrt: GraphNode,
  initializers: Map<string, Graph['initializers'] extends ReadonlyMap<string, infer T> ? T : never>,
  types: Map<string, ValueType>,
): Replacement | undefined {
  const plus = lookup.producer.get(sqrt.inputs[0]!);
  if (plus?.op !== 'Add') return undefined;
  const side = plus.inputs.findIndex((name) => scalar(lookup, name) !== undefined);
  const epsilon = scalar(lookup, plus.inputs[side]);
  const variance = lookup.producer.get(plus.inputs[1 - side] ?? '');
  const square = lookup.producer.get(variance?.inputs[0] ?? '');
  if (epsilon === undefined || !isMeanOfLast(lookup, variance) || square === undefined) return undefined;
  const centred = squareOf(lookup, square);
  const difference = lookup.producer.get(centred ?? '');
  if (centred === undefined || difference?.op !== 'Sub') return undefined;
  const [x, mean] = difference.inputs as [string, string];
  const meanNode = lookup.producer.get(mean);
  if (!isMeanOfLast(lookup, meanNode) || meanNode?.inputs[0] !== x) return undefined;
  const divide = onlyReader(lookup, sqrt.outputs[0]!);
  if (divide?.op !== 'Div' || divide.inputs[0] !== centred || divide.inputs[1] !== sqrt.outputs[0])
    return undefined;
  const inside = [mean, square.outputs[0]!, variance!.outputs[0]!, plus.outputs[0]!];
  if (inside.some((value) => onlyReader(lookup, value) === undefined)) return undefined;
  const width = lookup.graph.types.get(x)!.dims.at(-1)!;
  const scaled = parameterOf(lookup, divide.outputs[0]!, 'Mul', width);
  const shifted = scaled && parameterOf(lookup, scaled.node.outputs[0]!, 'Add', width);
  let scale = scaled?.name;
  if (scale === undefined) {
    scale = `${sqrt.name}.ones`;
    initializers.set(scale, floatTensor([width], new Float32Array(width).fill(1)));
    types.set(scale, { dtype: 'float32', dims: [width] });
  }
  const last = shifted?.node ?? scaled?.node ?? divide;
  const inputs = shifted === undefined ? [x, scale] : [x, scale, shifted.name];
  const attributes = { axis: -1, epsilon: { float: epsilon } };
  return {
    last,
    node: { op: 'LayerNormalization', name: last.name, inputs, outputs: last.outputs, attributes },
  };
}

function isMeanOfLast({ graph }: Lookup, node: GraphNode | undefined): boolean {
  if (node?.op !== 'ReduceMean' || node.attributes['keepdims'] === 0) return false;
  const axes = graph.initializers.get(node.inputs[1] ?? '');
  const rank = graph.types.get(node.inputs[0]!)!.dims.length;
  const axis = axes?.data.length === 1 ? Number(axes.data[0]) : Number.NaN;
  return axis === -1 || axis === rank - 1;
}

/** The value that a node squares. */
function squareOf(lookup: Lookup, { op, inputs }: GraphNode): string | undefined {
  if (op === 'Pow' && scalar(lookup, inputs[1]) === 2) return inputs[0];
  return op === 'Mul' && inputs[0] === inputs[1] ? inputs[0] : undefined;
}

/** A vector of `width` values by which the only reader of `value` multiplies or which it adds. */
function parameterOf(
  lookup: Lookup,
  value: string,
  op: string,
  width: number,
): { node: GraphNode; name: string } | undefined {
  const node = onlyReader(lookup, value);
  const name = otherOperand(node, op, value);
  const tensor = lookup.graph.initializers.get(name ?? '');
  if (node === undefined || name === undefined || tensor?.dtype !== 'float32') return undefined;
  return tensor.dims.length === 1 && elementCount(tensor.dims) === width ? { node, name } : undefined;
}
