/**
 * `If` nodes: both branches are graphs of their own, which may read every value outside. Their values get names of their own, so that
 * the branch that is taken can be written in place of the node; its constants become the network's.
 */
import type { FileAttribute, FileGraph, FileNode, FileTensor } from './onnx-file.ts';
import { invalidFile } from './read.ts';

/** The branch for a condition. */
export function branchOf(node: FileNode, condition: boolean): FileGraph | undefined {
  const attribute = node.attributes.get(condition ? 'then_branch' : 'else_branch');
  return attribute?.kind === 'graph' ? attribute.value : undefined;
}

/** What a node reads: its inputs, and what its branches read from outside. */
export function readsOf(node: FileNode): readonly string[] {
  const graphs = [...node.attributes.values()].flatMap((attribute) =>
    attribute.kind === 'graph' ? [attribute.value] : [],
  );
  if (graphs.length === 0) return node.inputs;
  return [...node.inputs, ...graphs.flatMap(outerReads)];
}

function outerReads(graph: FileGraph): string[] {
  const own = new Set([...graph.initializers.keys(), ...graph.nodes.flatMap((node) => node.outputs)]);
  const read = [...graph.nodes.flatMap(readsOf), ...graph.outputs.map(({ name }) => name)];
  return read.filter((name) => !own.has(name));
}

export interface Hoisted {
  readonly nodes: readonly FileNode[];
  /** Constants of all branches, by their new names. */
  readonly initializers: ReadonlyMap<string, FileTensor>;
}

/**
 * @param convert is given every node of a branch
 * @throws AppError MODEL_FILE_INVALID for a branch that takes inputs
 */
export function hoistBranches(
  label: string,
  nodes: readonly FileNode[],
  convert: (node: FileNode) => FileNode,
): Hoisted {
  const initializers = new Map<string, FileTensor>();
  let count = 0;
  const visit = (node: FileNode, outer: ReadonlyMap<string, string>): FileNode => {
    const named = { ...node, inputs: node.inputs.map((name) => outer.get(name) ?? name) };
    if (![...node.attributes.values()].some(({ kind }) => kind === 'graph')) return named;
    const attributes = new Map<string, FileAttribute>();
    for (const [name, attribute] of node.attributes) {
      const isGraph = attribute.kind === 'graph';
      attributes.set(name, isGraph ? { kind: 'graph', value: hoist(attribute.value, outer) } : attribute);
    }
    return { ...named, attributes };
  };
  const hoist = (graph: FileGraph, outer: ReadonlyMap<string, string>): FileGraph => {
    if (graph.inputs.some(({ name }) => !graph.initializers.has(name)))
      throw invalidFile(label, 'a branch of an If takes inputs');
    const prefix = `branch_${count++}`;
    const names = new Map(outer);
    for (const [name, tensor] of graph.initializers) {
      names.set(name, `${prefix}/${name}`);
      initializers.set(`${prefix}/${name}`, { ...tensor, name: `${prefix}/${name}` });
    }
    for (const node of graph.nodes)
      for (const output of node.outputs) if (output !== '') names.set(output, `${prefix}/${output}`);
    const inner = graph.nodes.map((node) => {
      const visited = visit(convert(node), names);
      return { ...visited, outputs: visited.outputs.map((name) => names.get(name) ?? name) };
    });
    const outputs = graph.outputs.map((value) => ({ ...value, name: names.get(value.name) ?? value.name }));
    return { nodes: inner, initializers: new Map(), inputs: [], outputs };
  };
  return { nodes: nodes.map((node) => visit(node, new Map())), initializers };
}
