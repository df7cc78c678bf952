/** Values while a network is written for one batch size. */
import type { GraphBuilder } from '../../graph/graph-builder.ts';
import { NodeProblem, toSize } from './attributes.ts';
import type { HostTensor } from './host-tensor.ts';
import { elementTypeName, type FileNode } from './onnx-file.ts';

/** A value that does not depend on the images. */
export interface Known {
  readonly kind: 'known';
  readonly tensor: HostTensor;
  /** Name of the value in the file; undefined when the value depends on the batch size. */
  readonly key: string | undefined;
  /** Name of the initializer that it was made of. */
  readonly stem: string;
}

/** A value of the graph that is being built. */
export interface Computed {
  readonly kind: 'computed';
  readonly name: string;
  /** Set right behind a QuantizeLinear: the numbers that its value stands for. */
  readonly grid?: { readonly scale: number; readonly zero: number };
}

export type Value = Known | Computed;

export function computed(name: string): Computed {
  return { kind: 'computed', name };
}

/**
 * The network written for another batch size, to compare with: at `fixed` the file's own shapes hold, and what
 * differs from it in the current writing is the batch.
 */
export interface Reference {
  readonly batch: number;
  /** Whether the file knows this batch size only, so that its constants may hold it. */
  readonly fixed: boolean;
  readonly dims: ReadonlyMap<string, readonly number[]>;
}

/** One node of the file, its inputs and where to write it. */
export class NodeContext {
  readonly builder: GraphBuilder;
  readonly node: FileNode;
  readonly opset: number;
  readonly batch: number;
  readonly reference: Reference | undefined;
  readonly inputs: readonly (Value | undefined)[];
  private readonly materialise: (value: Value) => string;

  constructor(
    parts: Pick<NodeContext, 'builder' | 'node' | 'opset' | 'batch' | 'reference' | 'inputs'>,
    materialise: (value: Value) => string,
  ) {
    this.builder = parts.builder;
    this.node = parts.node;
    this.opset = parts.opset;
    this.batch = parts.batch;
    this.reference = parts.reference;
    this.inputs = parts.inputs;
    this.materialise = materialise;
  }

  /** The same place for another form of the node. */
  with(node: FileNode, inputs: readonly (Value | undefined)[]): NodeContext {
    const { builder, opset, batch, reference } = this;
    return new NodeContext({ builder, opset, batch, reference, node, inputs }, this.materialise);
  }

  /** A required input. @throws NodeProblem */
  input(index: number): Value {
    const value = this.inputs[index];
    if (value === undefined) throw new NodeProblem('invalid', `has no input ${index}`);
    return value;
  }

  /** The graph's name of a required input. */
  read(index: number): string {
    return this.materialise(this.input(index));
  }

  /** The graph's name of an input, '' when it is absent. */
  readOptional(index: number): string {
    const value = this.inputs[index];
    return value === undefined ? '' : this.materialise(value);
  }

  /** The graph's name of a value that a rule made known. */
  write(value: Value): string {
    return this.materialise(value);
  }

  /** An input that must be known when it is there. @throws NodeProblem */
  known(index: number): HostTensor | undefined {
    const value = this.inputs[index];
    if (value === undefined) return undefined;
    if (value.kind === 'computed') {
      throw new NodeProblem('unsupported', `takes its input ${index} from the image`);
    }
    return value.tensor;
  }

  /** What the file calls the type of a known input; undefined when it is absent or was computed. */
  elementTypeOf(index: number): string | undefined {
    const type = this.known(index)?.elementType;
    return type === undefined ? undefined : elementTypeName(type);
  }

  /** {@link known} sizes or axes. */
  integers(index: number): number[] | undefined {
    const tensor = this.known(index);
    return tensor === undefined ? undefined : Array.from(tensor.data as ArrayLike<number | bigint>, toSize);
  }

  dims(index: number): readonly number[] {
    return this.dimsOf(this.input(index));
  }

  dimsOf(value: Value): readonly number[] {
    return value.kind === 'known' ? value.tensor.dims : this.builder.dimsOf(value.name);
  }

  /** Shape of an input in the reference; undefined without one. */
  referenceDims(index: number): readonly number[] | undefined {
    return this.reference?.dims.get(this.node.inputs[index] ?? '');
  }

  /** Whether constants of the file may hold another batch size than the one that is written. */
  get isRebatched(): boolean {
    return this.reference?.fixed === true && this.reference.batch !== this.batch;
  }
}

/** Writes one node. @throws NodeProblem or what GraphBuilder throws */
export type NodeRule = (context: NodeContext) => Value[];
