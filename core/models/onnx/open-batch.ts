/**
 * A graph for any batch size, made of graphs for three: what differs between them is the batch.
 */
import type { Graph, GraphNode } from '../../graph/graph.ts';
import { sameDims, type Tensor } from '../../shared/tensor.ts';

/** Sizes that no axis of a network is likely to have by itself. */
const sampledBatches = [7, 11, 13] as const;

export interface OpenedGraph {
  /** Types in it are those of one batch size: only its inputs' and outputs' first axis is meant to be open. */
  readonly graph: Graph;
  readonly isOpen: boolean;
}

interface Affine {
  readonly factor: bigint[];
  readonly offset: bigint[];
}

/**
 * Integers of the graph (shapes, ends of slices) that grow with the batch are computed from the size of the first
 * input; a Reshape with one such size gets -1 in its place. A network that holds its batch size in any other way, or
 * whose nodes differ from batch to batch, is given back for a batch of one.
 */
export function openBatch(build: (batch: number) => Graph): OpenedGraph {
  const graphs = sampledBatches.map(build);
  const [first] = graphs as [Graph, ...Graph[]];
  const closed = (): OpenedGraph => ({ graph: build(1), isOpen: false });
  if (!graphs.every((graph) => sameNodes(first, graph))) return closed();
  const writer = createOpener(first);
  const nodes: GraphNode[] = [];
  for (const [index, node] of first.nodes.entries()) {
    const inputs: string[] = [];
    for (const [position, input] of node.inputs.entries()) {
      const constants = graphs.map((graph) => graph.initializers.get(graph.nodes[index]!.inputs[position]!));
      if (constants.every((tensor) => tensor === undefined)) {
        inputs.push(input);
        continue;
      }
      const [one, two, three] = constants;
      if (one === undefined || two === undefined || three === undefined) return closed();
      if (sameValues(one, two) && sameValues(one, three)) {
        inputs.push(input);
        continue;
      }
      const affine = affineOf(one, two, three);
      if (affine === undefined) return closed();
      inputs.push(writer.open(node, affine));
    }
    nodes.push({ ...node, inputs });
  }
  return { graph: writer.finish(nodes), isOpen: true };
}

/** Same operators, attributes and wiring; constants may have other names. */
function sameNodes(a: Graph, b: Graph): boolean {
  if (a.nodes.length !== b.nodes.length || a.inputs.join() !== b.inputs.join()) return false;
  return a.nodes.every((node, index) => {
    const other = b.nodes[index]!;
    const wiring = (graph: Graph, { inputs }: GraphNode) =>
      inputs.map((input) => (graph.initializers.has(input) ? ' constant' : input)).join('\n');
    return (
      node.op === other.op &&
      node.outputs.join('\n') === other.outputs.join('\n') &&
      JSON.stringify(node.attributes) === JSON.stringify(other.attributes) &&
      wiring(a, node) === wiring(b, other)
    );
  });
}

function sameValues(a: Tensor, b: Tensor): boolean {
  if (a === b) return true;
  if (a.dtype !== b.dtype || !sameDims(a.dims, b.dims)) return false;
  if (a.data === b.data) return true;
  const bytes = ({ data }: Tensor) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return bytes(a).equals(bytes(b));
}

/** factor · batch + offset, if that is what the three samples say. */
function affineOf(...samples: readonly [Tensor, Tensor, Tensor]): Affine | undefined {
  const [one, two, three] = samples;
  const fits = samples.every(({ dtype, dims }) => dtype === 'int64' && sameDims(dims, one.dims));
  if (!fits || one.dims.length !== 1) return undefined;
  const [a, b, c] = sampledBatches.map(BigInt) as [bigint, bigint, bigint];
  const values = samples.map(({ data }) => Array.from(data as BigInt64Array));
  const factor: bigint[] = [];
  const offset: bigint[] = [];
  for (let index = 0; index < one.data.length; index++) {
    const [atA, atB, atC] = values.map((list) => list[index]!) as [bigint, bigint, bigint];
    const slope = (atB - atA) / (b - a);
    const start = atA - slope * a;
    if (start + slope * b !== atB || start + slope * c !== atC) return undefined;
    factor.push(slope);
    offset.push(start);
  }
  return factor.length === two.data.length && factor.length === three.data.length
    ? { factor, offset }
    : undefined;
}

function createOpener(graph: Graph) {
  const initializers = new Map(graph.initializers);
  const types = new Map(graph.types);
  const before: GraphNode[] = [];
  let count = 0;
  const fresh = () => {
    let name: string;
    do name = `open_batch_${count++}`;
    while (types.has(name));
    return name;
  };
  const constant = (values: readonly bigint[]) => {
    const name = fresh();
    const tensor: Tensor = { dtype: 'int64', dims: [values.length], data: BigInt64Array.from(values) };
    initializers.set(name, tensor);
    types.set(name, tensor);
    return name;
  };
  const append = (op: string, inputs: string[], size: number, attributes: GraphNode['attributes'] = {}) => {
    const name = fresh();
    types.set(name, { dtype: 'int64', dims: [size] });
    before.push({ op, name, inputs, outputs: [name], attributes });
    return name;
  };
  let batch: string | undefined;
  return {
    /** The value that a node reads in place of its constant. */
    open(node: GraphNode, { factor, offset }: Affine): string {
      const growing = factor.flatMap((slope, index) => (slope === 0n ? [] : [index]));
      const [only] = growing;
      const isPlain =
        growing.length === 1 && offset[only!] === 0n && !offset.some((size, at) => at !== only && size <= 0n);
      if (node.op === 'Reshape' && isPlain)
        return constant(offset.map((size, at) => (at === only ? -1n : size)));
      batch ??= append('Shape', [graph.inputs[0]!], 1, { start: 0, end: 1 });
      const scaled = append('Mul', [batch, constant(factor)], factor.length);
      return append('Add', [scaled, constant(offset)], factor.length);
    },
    finish(nodes: readonly GraphNode[]): Graph {
      const read = new Set([...before, ...nodes].flatMap((node) => node.inputs));
      return {
        ...graph,
        nodes: [...before, ...nodes],
        initializers: new Map([...initializers].filter(([name]) => read.has(name))),
        types,
      };
    },
  };
}
