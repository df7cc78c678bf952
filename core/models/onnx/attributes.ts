/** Attributes of an ONNX node, with the defaults that the operator pages give. */
import type { Attribute } from '../../graph/graph.ts';
import type { FileAttribute, FileNode } from './onnx-file.ts';

/** What stops one node; the import adds the file's and the node's name. */
export class NodeProblem extends Error {
  override readonly name = 'NodeProblem';
  readonly kind: 'unsupported' | 'invalid';

  /** @param what goes on after the node's name: "has no input 0" */
  constructor(kind: 'unsupported' | 'invalid', what: string) {
    super(what);
    this.kind = kind;
  }
}

type Attributes = FileNode['attributes'];

function find<K extends FileAttribute['kind']>(
  attributes: Attributes,
  name: string,
  kind: K,
): Extract<FileAttribute, { kind: K }> | undefined {
  const attribute = attributes.get(name);
  if (attribute === undefined) return undefined;
  if (attribute.kind !== kind) {
    throw new NodeProblem('invalid', `has an attribute "${name}" of the wrong type`);
  }
  return attribute as Extract<FileAttribute, { kind: K }>;
}

export function intAttribute(attributes: Attributes, name: string, fallback: number): number {
  const found = find(attributes, name, 'int');
  return found === undefined ? fallback : toSize(found.value);
}

export function floatAttribute(attributes: Attributes, name: string, fallback: number): number {
  return find(attributes, name, 'float')?.value ?? fallback;
}

export function stringAttribute(attributes: Attributes, name: string, fallback: string): string {
  return find(attributes, name, 'string')?.value ?? fallback;
}

export function intsAttribute(attributes: Attributes, name: string): number[] | undefined {
  return find(attributes, name, 'ints')?.value.map(toSize);
}

/** Sizes and axes; what lies beyond 2⁵³ stands for "to the end" and is cut to 2³¹. */
export function toSize(value: bigint | number): number {
  const number = Number(value);
  return Math.min(Math.max(number, -(2 ** 31)), 2 ** 31 - 1);
}

/** As our graph holds them. Attributes of other kinds are an error where they have a meaning. */
export function graphAttributes(attributes: Attributes, names: readonly string[]): Record<string, Attribute> {
  const result: Record<string, Attribute> = {};
  for (const name of names) {
    const attribute = attributes.get(name);
    if (attribute === undefined) continue;
    if (attribute.kind === 'int') result[name] = toSize(attribute.value);
    else if (attribute.kind === 'float') result[name] = { float: attribute.value };
    else if (attribute.kind === 'string') result[name] = attribute.value;
    else if (attribute.kind === 'ints') result[name] = attribute.value.map(toSize);
    else throw new NodeProblem('invalid', `has an attribute "${name}" of the wrong type`);
  }
  return result;
}
