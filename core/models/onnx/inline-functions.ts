/** Calls of the functions that an ONNX file brings along, replaced by their bodies. */
import {
  type FileAttribute,
  type FileFunction,
  type FileNode,
  functionKey,
  type OnnxFile,
} from './onnx-file.ts';
import { invalidFile } from './read.ts';

const maxDepth = 16;
const maxNodes = 200_000;

/**
 * The graph's nodes without calls; values inside a body are named after the call.
 * @throws AppError MODEL_FILE_INVALID for functions that call themselves or belong to another operator set
 */
export function inlineFunctions(file: OnnxFile): readonly FileNode[] {
  if (file.functions.size === 0) return file.graph.nodes;
  const nodes: FileNode[] = [];
  let calls = 0;
  const visit = (node: FileNode, depth: number): void => {
    const called = node.domain === '' ? undefined : file.functions.get(functionKey(node.domain, node.op));
    if (called === undefined) {
      if (nodes.length >= maxNodes)
        throw invalidFile(file.label, `its functions make more than ${maxNodes} nodes`);
      nodes.push(node);
      return;
    }
    if (depth >= maxDepth) throw invalidFile(file.label, `the function "${called.name}" calls itself`);
    if (++calls > maxNodes)
      throw invalidFile(file.label, `it holds more than ${maxNodes} calls of functions`);
    checkOpset(file, called);
    for (const inner of bodyOf(node, called, `${node.name || node.op}_${calls}`, file.label))
      visit(inner, depth + 1);
  };
  for (const node of file.graph.nodes) visit(node, 0);
  return nodes;
}

function checkOpset(file: OnnxFile, called: FileFunction): void {
  const own = called.opsets.get('');
  if (own !== undefined && own !== file.opsets.get('')) {
    throw invalidFile(
      file.label,
      `the function "${called.name}" is of opset ${own}, the graph of ${file.opsets.get('')}`,
    );
  }
}

function bodyOf(call: FileNode, called: FileFunction, prefix: string, label: string): FileNode[] {
  const names = new Map<string, string>([['', '']]);
  for (const [index, input] of called.inputs.entries()) names.set(input, call.inputs[index] ?? '');
  for (const [index, output] of called.outputs.entries()) {
    const outer = call.outputs[index] ?? '';
    if (names.has(output)) {
      throw invalidFile(label, `the function "${called.name}" gives back its input "${output}" unchanged`);
    }
    if (outer !== '') names.set(output, outer);
  }
  const rename = (name: string) => {
    const known = names.get(name) ?? `${prefix}/${name}`;
    names.set(name, known);
    return known;
  };
  return called.nodes.map((node) => ({
    ...node,
    name: `${prefix}/${node.name || node.op}`,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
    attributes: resolveReferences(node, call, called),
  }));
}

/** A reference takes the caller's attribute, else the default, else the attribute is left out. */
function resolveReferences(node: FileNode, call: FileNode, called: FileFunction): Map<string, FileAttribute> {
  const attributes = new Map<string, FileAttribute>();
  for (const [name, attribute] of node.attributes) {
    const value =
      attribute.kind === 'reference'
        ? (call.attributes.get(attribute.value) ?? called.defaults.get(attribute.value))
        : attribute;
    if (value !== undefined) attributes.set(name, value);
  }
  return attributes;
}
