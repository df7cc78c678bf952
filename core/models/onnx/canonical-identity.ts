/** The identity of an imported network by what it computes: operators, how they are connected, and values. Names don't count. */
import { createHash, type Hash } from 'node:crypto';
import type { Attribute, Graph, GraphNode } from '../../graph/graph.ts';
import { canonicalJson } from '../../shared/hash.ts';
import type { Tensor } from '../../shared/tensor.ts';

/** Changes when the same file would become another network. */
const formatVersion = 'anneal-onnx-2';

/**
 * SHA-256 over the network as Anneal writes it for one image, pixels to embedding: the version of this rule, the size of the
 * image, then each node in canonical order with its operator, its attributes but for defaults, and the numbers of its inputs;
 * each constant with shape and values where it is read first.
 * @param graph in canonical order (see canonical-order.ts)
 * @param weights constants that are weights, which training may change
 */
export function canonicalIdentity(graph: Graph, weights: ReadonlySet<string>): string {
  const hash = createHash('sha256');
  const write = (value: unknown) => hash.update(`${canonicalJson(value)}\n`);
  const numbers = new Map<string, number>();
  const numberOf = (name: string): number | null => {
    if (name === '') return null;
    const known = numbers.get(name);
    if (known !== undefined) return known;
    const number = numbers.size;
    numbers.set(name, number);
    const tensor = graph.initializers.get(name);
    if (tensor !== undefined) writeTensor(hash, tensor, weights.has(name));
    return number;
  };
  write({ format: formatVersion, input: graph.inputs.map((name) => graph.types.get(name)!.dims) });
  for (const name of graph.inputs) numberOf(name);
  for (const node of graph.nodes) {
    const inputs = node.inputs.map(numberOf);
    write({
      op: [node.domain ?? '', node.op],
      inputs,
      outputs: node.outputs.map(numberOf),
      attributes: attributesOf(node),
    });
  }
  write({ outputs: graph.outputs.map(numberOf) });
  return hash.digest('hex');
}

function writeTensor(hash: Hash, { dtype, dims, data }: Tensor, isWeight: boolean): void {
  hash.update(`${canonicalJson({ dtype, dims, isWeight })}\n`);
  hash.update(new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength));
}

const is =
  (wanted: number) =>
  (value: Attribute): boolean =>
    value === wanted;
const all =
  (wanted: number) =>
  (value: Attribute): boolean =>
    Array.isArray(value) && value.every((item) => item === wanted);

/** Attributes that say what an operator does without them; some exporters write them, some don't. */
const defaults: Readonly<Record<string, (value: Attribute) => boolean>> = {
  group: is(1),
  strides: all(1),
  dilations: all(1),
  pads: all(0),
  output_padding: all(0),
  transA: is(0),
  transB: is(0),
  allowzero: is(0),
  count_include_pad: is(0),
  keepdims: is(1),
};

/** By name; a float as text, since JSON has no infinity. */
function attributesOf({ attributes }: GraphNode): Record<string, unknown> {
  const kept = Object.entries(attributes).filter(([name, value]) => !defaults[name]?.(value));
  return Object.fromEntries(
    kept.map(([name, value]) => [
      name,
      typeof value === 'object' && 'float' in value ? String(Math.fround(value.float)) : value,
    ]),
  );
}
