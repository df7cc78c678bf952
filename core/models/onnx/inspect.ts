/** What an ONNX file holds, told without loading its weights. */
import { elementCount } from '../../shared/tensor.ts';
import { readsOf } from './branches.ts';
import { isConverted } from './convert-opset.ts';
import { externalLocation } from './external-data.ts';
import { inlineFunctions } from './inline-functions.ts';
import { isReadable } from './normalise.ts';
import {
  elementTypeName,
  type FileGraph,
  type FileNode,
  type FileTensor,
  type FileValue,
} from './onnx-file.ts';
import type { OnnxDescription, OnnxValueDescription } from './options.ts';
import { readOnnxFile } from './read.ts';
import { checkedElementCount, hostTypeOf, rawByteCount } from './tensors.ts';

/**
 * Describes a file without any setting, even when it cannot be used. Operators in `unsupported` cannot be part of any
 * base model; others may still turn out not to fit when the file is opened.
 * @throws AppError MODEL_FILE_INVALID
 */
export async function inspectOnnxFile(file: string): Promise<OnnxDescription> {
  const { label, producer, opsets, graph, functions } = await readOnnxFile(file);
  const nodes = inlineFunctions({ label, producer, opsets, graph, functions });
  const tensors = [...graph.initializers.values()];
  const external = tensors.filter((tensor) => tensor.external !== undefined);
  return {
    producer,
    opset: opsets.get('') ?? 0,
    inputs: graph.inputs.filter(({ name }) => !graph.initializers.has(name)).map(describe),
    outputs: graph.outputs.map(describe),
    operators: countOperators(nodes),
    unsupported: ofImage(nodes, graph)
      .filter((node) => !isReadable(node) && !isConverted(node, opsets.get('') ?? 0))
      .map((node) => ({ op: operatorName(node), node: node.name || (node.outputs[0] ?? '') })),
    parameterCount: [...tensors, ...constantsOf(nodes)].reduce(
      (sum, tensor) => sum + parametersIn(tensor, label),
      0,
    ),
    externalBytes: external.reduce((sum, tensor) => sum + rawByteCount(tensor, label), 0),
    externalFiles: [...new Set(external.map((tensor) => externalLocation(tensor, label)))].sort(),
  };
}

/** Nodes that work on what comes from the image: all others are computed once, whatever they are. */
function ofImage(nodes: readonly FileNode[], graph: FileGraph): FileNode[] {
  const values = new Set(
    graph.inputs.map(({ name }) => name).filter((name) => !graph.initializers.has(name)),
  );
  return nodes.filter((node) => {
    const isOfImage = readsOf(node).some((name) => values.has(name));
    if (isOfImage && node.op !== 'Shape' && node.op !== 'Size')
      for (const output of node.outputs) values.add(output);
    return isOfImage;
  });
}

function describe({ name, elementType, dims }: FileValue): OnnxValueDescription {
  return {
    name,
    dtype: elementTypeName(elementType),
    dims: dims?.map((size) => (size === '?' ? -1 : size)) ?? [],
  };
}

function operatorName({ op, domain }: FileNode): string {
  return domain === '' ? op : `${domain}.${op}`;
}

function countOperators(nodes: readonly FileNode[]): Record<string, number> {
  const counts = new Map<string, number>();
  for (const node of nodes) counts.set(operatorName(node), (counts.get(operatorName(node)) ?? 0) + 1);
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Some exporters keep all weights in Constant nodes. */
function constantsOf(nodes: readonly FileNode[]): FileTensor[] {
  return nodes.flatMap(({ op, attributes }) => {
    const value = op === 'Constant' ? attributes.get('value') : undefined;
    return value?.kind === 'tensor' ? [value.value] : [];
  });
}

function parametersIn(tensor: FileTensor, label: string): number {
  if (hostTypeOf(tensor.elementType) !== 'float32' || elementCount(tensor.dims) <= 1) return 0;
  return checkedElementCount(tensor, label);
}
