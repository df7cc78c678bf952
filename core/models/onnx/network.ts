/** The part of an ONNX file that leads from the image to the embedding, with its weights loaded. */
import { plural } from '../../shared/text.ts';
import { OpenQuestion } from '../open-question.ts';
import { NodeProblem } from './attributes.ts';
import { hoistBranches, readsOf } from './branches.ts';
import { convertNode } from './convert-opset.ts';
import { openExternalData } from './external-data.ts';
import type { HostTensor } from './host-tensor.ts';
import { inlineFunctions } from './inline-functions.ts';
import { unique } from './layer-names.ts';
import type { FileNode, FileTensor, FileValue, OnnxFile } from './onnx-file.ts';
import { invalidFile } from './read.ts';
import { readTensor } from './tensors.ts';

const oldestOpset = 7;
const newestOpset = 24;

export interface Network {
  readonly label: string;
  /** Version of ONNX's own operator set. */
  readonly opset: number;
  /** In topological order; only those that the output needs. */
  readonly nodes: readonly FileNode[];
  /** Initializers that the nodes read. */
  readonly tensors: ReadonlyMap<string, HostTensor>;
  readonly input: FileValue;
  /** Name of the value that becomes the embedding. */
  readonly output: string;
}

/** What of the graph is needed, before any weight is read. */
interface NetworkShape extends Omit<Network, 'tensors'> {
  readonly weights: ReadonlyMap<string, FileTensor>;
  /** Constants that older forms of nodes had among their attributes. */
  readonly made: ReadonlyMap<string, HostTensor>;
}

/**
 * @param wantedOutput a graph output or any inner value; the only output when absent
 * @throws AppError MODEL_FILE_INVALID
 */
function shapeNetwork(file: OnnxFile, wantedOutput?: string): NetworkShape {
  const { label, graph } = file;
  const opset = file.opsets.get('');
  if (opset === undefined || opset < oldestOpset || opset > newestOpset) {
    const found = opset === undefined ? 'none' : `${opset}`;
    throw invalidFile(label, `it needs opset ${oldestOpset} to ${newestOpset}, found ${found}`, {
      action: `Export the network again with an opset in between, for example torch.onnx.export(…, opset_version=17).`,
    });
  }
  const made = new Map<string, HostTensor>();
  const { nodes, initializers } = settle(file, opset, made);
  const producers = producersOf(file, nodes);
  const output = chooseOutput(file, producers, wantedOutput);
  const needed = collectNeeded(
    file,
    nodes,
    producers,
    output,
    new Set([...initializers.keys(), ...made.keys()]),
  );
  const ordered = sortNodes(label, nodes, needed, producers);
  const read = new Set(ordered.flatMap(readsOf));
  const fed = graph.inputs.filter(({ name }) => read.has(name) && !graph.initializers.has(name));
  const [input] = fed;
  if (input === undefined)
    throw invalidFile(label, `its output "${output}" depends on no input`, {
      action: 'Name another value with --output.',
    });
  if (fed.length > 1) {
    const names = fed.map(({ name }) => `"${name}"`).join(', ');
    throw invalidFile(label, `it takes ${plural(fed.length, 'input')} (${names}) instead of one image`, {
      action:
        'Export the part that turns one image into an embedding, or name a value that needs no other input with --output.',
    });
  }
  const weights = new Map([...initializers].filter(([name]) => read.has(name)));
  return { label, opset, nodes: ordered, input, output, weights, made };
}

/** Nodes without functions, in the forms of newer opsets, branches with names of their own; with all constants of the file. */
function settle(
  file: OnnxFile,
  opset: number,
  made: Map<string, HostTensor>,
): { nodes: readonly FileNode[]; initializers: ReadonlyMap<string, FileTensor> } {
  const { label, graph } = file;
  const taken = new Set([...graph.initializers.keys(), ...graph.nodes.flatMap((node) => node.outputs)]);
  const add = (tensor: HostTensor) => {
    const name = unique('converted', taken);
    made.set(name, tensor);
    return name;
  };
  const convert = (node: FileNode): FileNode => {
    try {
      return convertNode(node, opset, add);
    } catch (error) {
      if (!(error instanceof NodeProblem)) throw error;
      throw invalidFile(label, `the node ${nodeLabel(node)} ${error.message}`);
    }
  };
  const hoisted = hoistBranches(label, inlineFunctions(file).map(convert), convert);
  return { nodes: hoisted.nodes, initializers: new Map([...graph.initializers, ...hoisted.initializers]) };
}

/** Reads the weights that the network needs. @throws AppError MODEL_FILE_INVALID */
export async function loadNetwork(file: string, parsed: OnnxFile, wantedOutput?: string): Promise<Network> {
  const { weights, made, ...shape } = shapeNetwork(parsed, wantedOutput);
  const external = openExternalData(file, parsed.label);
  const tensors = new Map<string, HostTensor>(made);
  try {
    for (const [name, tensor] of weights) {
      const bytes = tensor.external === undefined ? undefined : await external.read(tensor);
      tensors.set(name, readTensor(tensor, parsed.label, bytes));
    }
  } finally {
    await external.close();
  }
  return { ...shape, tensors };
}

/** Index of the node that makes each value. */
function producersOf({ label, graph }: OnnxFile, nodes: readonly FileNode[]): Map<string, number> {
  const producers = new Map<string, number>();
  const inputs = new Set<string>();
  for (const { name } of graph.inputs) {
    if (inputs.has(name)) throw invalidFile(label, `the name "${name}" is given to two inputs`);
    inputs.add(name);
  }
  for (const [index, node] of nodes.entries()) {
    for (const output of node.outputs) {
      if (output === '') continue;
      if (producers.has(output) || graph.initializers.has(output) || inputs.has(output)) {
        throw invalidFile(label, `the name "${output}" is given to two values`);
      }
      producers.set(output, index);
    }
  }
  return producers;
}

function chooseOutput(
  { label, graph }: OnnxFile,
  producers: ReadonlyMap<string, number>,
  wanted?: string,
): string {
  const names = graph.outputs.map(({ name }) => name);
  const listed = names.map((name) => `"${name}"`).join(', ') || 'none';
  const chosen = wanted ?? (names.length === 1 ? names[0] : names.find((name) => name === 'embedding'));
  if (chosen === undefined) {
    const problem = invalidFile(label, `it has ${plural(names.length, 'output')} (${listed})`, {
      action: `Name the embedding with --output${names[0] === undefined ? '' : `, for example --output "${names[0]}"`}.`,
    });
    throw new OpenQuestion({ about: 'output', choices: names }, problem);
  }
  if (!producers.has(chosen)) {
    throw invalidFile(label, `no node makes the output "${chosen}"; the outputs of the file are ${listed}`, {
      action: 'Correct --output; it takes an output or the name of any value inside the network.',
    });
  }
  return chosen;
}

/** Indices of the nodes that the output needs. */
function collectNeeded(
  { label, graph }: OnnxFile,
  nodes: readonly FileNode[],
  producers: ReadonlyMap<string, number>,
  output: string,
  constants: ReadonlySet<string>,
): Set<number> {
  const known = new Set([...constants, ...graph.inputs.map(({ name }) => name)]);
  const needed = new Set<number>();
  const waiting = [producers.get(output)!];
  for (let index = waiting.pop(); index !== undefined; index = waiting.pop()) {
    if (needed.has(index)) continue;
    needed.add(index);
    const node = nodes[index]!;
    for (const input of readsOf(node)) {
      if (input === '' || known.has(input)) continue;
      const producer = producers.get(input);
      if (producer === undefined) {
        throw invalidFile(label, `the node ${nodeLabel(node)} reads "${input}", which nothing makes`);
      }
      waiting.push(producer);
    }
  }
  return needed;
}

/** How a message calls a node. */
export function nodeLabel(node: FileNode): string {
  const op = node.domain === '' ? node.op : `${node.domain}.${node.op}`;
  return `"${node.name || node.outputs[0] || 'without a name'}" (${op})`;
}

/** Kahn's algorithm that keeps the file's order where it can. */
function sortNodes(
  label: string,
  nodes: readonly FileNode[],
  needed: ReadonlySet<number>,
  producers: ReadonlyMap<string, number>,
): FileNode[] {
  const order = [...needed].sort((a, b) => a - b);
  const missing = new Map<number, number>();
  const readers = new Map<number, number[]>();
  for (const index of order) {
    const sources = new Set<number>();
    for (const input of readsOf(nodes[index]!)) {
      const producer = producers.get(input);
      if (producer !== undefined) sources.add(producer);
    }
    missing.set(index, sources.size);
    for (const source of sources) {
      const list = readers.get(source) ?? [];
      list.push(index);
      readers.set(source, list);
    }
  }
  const inOrder = order.every((index) =>
    readsOf(nodes[index]!).every((input) => (producers.get(input) ?? -1) < index),
  );
  if (inOrder) return order.map((index) => nodes[index]!);
  const ready = order.filter((index) => missing.get(index) === 0);
  const sorted: FileNode[] = [];
  for (let at = 0; at < ready.length; at++) {
    const index = ready[at]!;
    sorted.push(nodes[index]!);
    for (const reader of readers.get(index) ?? []) {
      const left = missing.get(reader)! - 1;
      missing.set(reader, left);
      if (left === 0) ready.push(reader);
    }
  }
  if (sorted.length < order.length) {
    const stuck = order.find((index) => missing.get(index)! > 0)!;
    throw invalidFile(label, `the node ${nodeLabel(nodes[stuck]!)} depends on its own output`);
  }
  return sorted;
}
